"""``EpochCopies``: what the history of samples had written after some epochs of a run."""

import shutil
from collections.abc import Collection
from pathlib import Path

from catalyst import dl

from assay.callbacks import SampleHistory


class EpochCopies(dl.Callback):
    """Copies files of the history to ``epoch-N`` after each of some epochs.

    Args:
        history: writes the files.
        source: their folder.
        folder: where the copies go.
        epochs: numbers of the epochs.
    """

    def __init__(self, history: SampleHistory, source: Path, folder: Path, epochs: Collection[int]):
        super().__init__(order=10_000)
        self.history, self.source, self.folder, self.epochs = history, source, folder, epochs

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if runner.epoch_step in self.epochs:
            for writer in self.history.writers_.values():
                writer.drain()
            shutil.copytree(self.source, self.folder / f"epoch-{runner.epoch_step}")
