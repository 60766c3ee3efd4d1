"""Train experiments for an epoch on each device: ``python -m benchmarks.gpu.train_experiments JSON``."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from accelerate.state import AcceleratorState

from assay.runner.commands.main import main as assay


def main(names: Sequence[str], devices: Sequence[str], folder: str, small: bool) -> int:
    """Make the data and train; go on after one that fails, and return 1 then.

    Args:
        names: of the experiments.
        devices: to train on, one after another.
        folder: for data and runs, which are called ``NAME-DEVICE``.
        small: train on one batch.
    """
    codes = []
    for name in names:
        data = [] if name == "digits" else ["--data-dir", str(Path(folder, name))]
        if data:
            codes.append(assay(["data", name, *data]))
        for device in devices:
            AcceleratorState._reset_state(True)  # it keeps its device for the whole process
            options = ["--epochs", "1", "--device", device, "--threads", "4", *["--limit-batches", "1"] * small]
            codes.append(assay(["train", name, *data, *options, "--run-dir", str(Path(folder, f"{name}-{device}"))]))
            print(f"{name} on {device} ended with {codes[-1]}", flush=True)
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(**json.loads(sys.argv[1])))
