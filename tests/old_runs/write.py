"""Writes the runs of a former version: python write.py FOLDER [--newer], with that version as ``assay``.

It makes an uninterrupted run of ``every_measure.py``, and three that end early: within the second epoch while they
train, within it while they validate, and at its end. Of each it keeps what a resumed run needs, and of the first one
the numbers that the others must come to.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

from catalyst import dl
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

sys.path.insert(0, str(Path(__file__).parent))

from every_measure import EveryMeasure

from assay.runner import train
from assay.runner.processes.exit_codes import StoppedError

# Batches of the second epoch after which the runs end; it has 12 for training and 5 for validation. None: at its end.
MOMENTS = {"train": 7, "valid": 14, "epoch": None}
MEASURED = re.compile("[, _](time|memory)/|config|_hparams_")  # what differs from run to run
KEPT = ("checkpoints/last.pt", "config.yaml", "metrics.csv")


class Stop(dl.Callback):
    """Stops the run as a scheduler of jobs would, which saves it."""

    def __init__(self, batch):
        super().__init__(order=0)
        self.batch = batch

    def on_batch_end(self, runner):
        if (runner.epoch_step, runner.epoch_rounds) == (2, self.batch):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_epoch_end(self, runner):
        if (runner.epoch_step, self.batch) == (2, None):
            os.kill(os.getpid(), signal.SIGTERM)


def events_of(folder):
    """Yield the name and the events of each folder with events."""
    former = Path(folder, "tensorboard")  # where versions before the numbered tags have written
    parts = {path.parent for path in (former if former.is_dir() else Path(folder)).glob("*/events.*")}
    for part in sorted(parts):
        yield part.name, EventAccumulator(str(part), size_guidance={"scalars": 0, "tensors": 0, "images": 0}).Reload()


def numbers_of(folder):
    """Return the lines of metrics.csv, and all scalars and texts by folder, tag and step, without times."""
    lines = Path(folder, "metrics.csv").read_text().splitlines()[1:]
    rows = {",".join(keys): float(value) for *keys, value in (line.split(",") for line in lines)}
    scalars, texts = {}, {}
    for part, events in events_of(folder):
        for tag in events.Tags()["scalars"]:
            scalars |= {f"{part} {tag} {it.step}": it.value for it in events.Scalars(tag)}
        for tag in events.Tags()["tensors"]:
            if tag.endswith("/text_summary"):
                found = {f"{part} {tag} {it.step}": it.tensor_proto.string_val[0] for it in events.Tensors(tag)}
                texts |= {key: text.decode() for key, text in found.items()}
    kinds = {"rows": rows, "scalars": scalars, "texts": texts}
    return {kind: {key: of[key] for key in sorted(of) if not MEASURED.search(key)} for kind, of in kinds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--newer", action="store_true", help="with the diagnostics that came after c625354")
    arguments = parser.parse_args()
    straight = arguments.folder / "straight"
    train(EveryMeasure(newer=arguments.newer), name="every_measure", run_dir=straight)
    (arguments.folder / "numbers.json").write_text(json.dumps(numbers_of(straight)))
    shutil.rmtree(straight)
    for name, batch in MOMENTS.items():
        experiment, folder = EveryMeasure(newer=arguments.newer), arguments.folder / name
        callbacks = [*experiment.get_callbacks(), Stop(batch)]
        experiment.get_callbacks = lambda callbacks=callbacks: callbacks
        with contextlib.suppress(StoppedError):
            train(experiment, name="every_measure", run_dir=folder)
        strip(folder)


def strip(folder):
    """Keep of a run what it is resumed from."""
    for path in sorted(folder.rglob("*"), reverse=True):  # what a folder holds comes before it
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
        elif path.is_file() and path.relative_to(folder).as_posix() not in KEPT:
            path.unlink()


if __name__ == "__main__":
    main()
