"""Run a function in a process of its own, so that no measurement inherits the state of another."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def apart(function: str, /, *, timeout_s: float = 1800.0, **arguments: Any) -> Any:
    """Call a function in a new process and return what it returned.

    Args:
        function: ``MODULE:NAME``; its arguments and result must be JSON values.
        timeout_s: after so many seconds the process is ended.
        arguments: for the function.

    Raises:
        RuntimeError: the process failed; the message holds the end of its output.
    """
    command = [sys.executable, "-m", "benchmarks.apart", function, json.dumps(arguments)]
    # OpenMP's threads sleep while they wait: if they spin, a shared machine is now and then 10 to 30 times slower.
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive", "NO_ALBUMENTATIONS_UPDATE": "1"}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    # The result is the last line: whatever the function prints comes before it.
    *said, last = done.stdout.splitlines() or [""]
    if done.returncode != 0 or not last.startswith(_RESULT):
        raise RuntimeError(
            f"{function} with {arguments} ended with {done.returncode}:\n" + "\n".join([*said, last][-30:])
        )
    return json.loads(last.removeprefix(_RESULT))


_RESULT = "result: "


def main() -> None:
    function, arguments = sys.argv[1:]
    module, _, name = function.partition(":")
    result = getattr(importlib.import_module(module), name)(**json.loads(arguments))
    print(f"\n{_RESULT}{json.dumps(result)}", flush=True)


if __name__ == "__main__":
    main()
