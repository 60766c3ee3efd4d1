"""``assay`` with its own arguments, ended at the first step of an optimizer: what it imported until then, as JSON."""

import json
import os
import sys
from typing import Any, NoReturn

from assay.runner.commands import main as cli


def main(arguments: list[str]) -> NoReturn:
    find = cli.find_experiment

    def find_and_watch(name: str) -> Any:
        experiment = find(name)
        from torch.optim.optimizer import register_optimizer_step_pre_hook  # not before `assay` itself imports torch

        register_optimizer_step_pre_hook(end)
        return experiment

    cli.find_experiment = find_and_watch
    code = cli.main(arguments)
    sys.exit(f"there was no step: assay {' '.join(arguments)} ended with {code}")


def end(*_: Any) -> NoReturn:
    print(json.dumps(sorted(sys.modules)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
