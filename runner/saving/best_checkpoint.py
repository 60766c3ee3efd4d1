"""Save the weights of the best epochs by a metric, in any Catalyst runner."""

import json
import logging
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from catalyst import dl

from assay.callbacks.base.order import CHECKPOINTS
from assay.callbacks.errors import UsageError, at_least_one
from assay.callbacks.support.atomic_files import digest, half_written, link_whole, save_text, save_whole
from assay.callbacks.support.distributed import from_main_rank
from assay.callbacks.support.runner_view import averaged_weights, folder_in_run
from assay.callbacks.support.unwrap import plain_modules, weights_of

from ..recipe.monitor import Monitor
from .checkpoint_files import INDEX

BEST = "best.pth"

_log = logging.getLogger("assay")


class BestCheckpoint(dl.Callback):
    """Keeps the weights of the best epochs by a metric, independently of other checkpoints.

    ==================== =================================================================================
    file of the folder   content
    ==================== =================================================================================
    ``epoch-0003.pth``   the model's ``state_dict`` after epoch 3, as long as it is among the ``top_k`` best;
                         for several models a dict of them by name
    ``best.pth``         the same file as that of the best epoch
    ``index.json``       ``{"checkpoints": [{"file", "epoch", "metric", "value", "sha256"}]}``, the best first
    ==================== =================================================================================

    ``model.load_state_dict(torch.load(file))`` loads a file; names have no prefixes of DDP or ``torch.compile``. A
    ``DictRunner`` that averages its weights saves the average, which is what was validated. A value that is NaN or
    infinite is never the best; among equal values the first wins. The main process writes files atomically.

    Args:
        monitor: ``LOADER/METRIC:min`` or ``LOADER/METRIC:max``.
        folder: where to write; reserved for this callback, as older ``epoch-*.pth`` files in it are removed. None:
            ``best-LOADER-METRIC`` in the run's ``logdir``.
        top_k: how many epochs to keep.

    Raises:
        UsageError: an argument is out of range; at the start of the run, there is no such loader or no folder, or two
            callbacks share a folder; at the end of the first epoch, the loader has no such metric.
        OSError: on every rank, if a file cannot be written; it names the file.
    """

    def __init__(
        self,
        monitor: str | Monitor = "valid/loss:min",
        folder: str | os.PathLike[str] | None = None,
        *,
        top_k: int = 1,
    ):
        super().__init__(order=CHECKPOINTS)
        self.monitor = monitor if isinstance(monitor, Monitor) else Monitor.parse(monitor)
        self.folder = None if folder is None else Path(folder)
        self.top_k = at_least_one("top_k", top_k)
        self.folder_ = self.folder
        self.kept_: list[dict[str, Any]] = []

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.folder_ = self._find_folder(runner)
        self.kept_ = []
        # Raises for an unknown loader now, rather than after the first epoch.
        if self.monitor.loader not in (*runner.loaders, "_epoch_"):
            self.monitor.value({key: {} for key in runner.loaders})
        peers = [c for c in runner.callbacks.values() if isinstance(c, BestCheckpoint) and c is not self]
        if any(peer._find_folder(runner) == self.folder_ for peer in peers):
            raise UsageError(f"BestCheckpoint: two callbacks write to {self.folder_}; give each its own folder.")

    def state_dict(self) -> dict[str, Any]:
        """Return which epochs are kept."""
        return {"kept": [dict(entry) for entry in self.kept_]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned, without files that no longer exist."""
        folder = self.folder_
        self.kept_ = [
            dict(entry) for entry in state["kept"] if folder is not None and (folder / entry["file"]).exists()
        ]

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        value = float(self.monitor.value(runner.epoch_metrics))
        error = None
        if runner.engine.is_main_process:
            error = self._save_if_best(runner, value)
        # A collective: if the main rank alone raised, the others would wait for it in the next epoch.
        if (error := from_main_rank(error)) is not None:
            raise error

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        if runner.engine.is_main_process and not self.kept_:
            _log.warning("BestCheckpoint: %s was never finite, so nothing was saved.", self.monitor.name)

    def _find_folder(self, runner: dl.IRunner) -> Path:
        name = f"best-{re.sub(r'[^0-9A-Za-z_.-]+', '-', self.monitor.name)}"
        return folder_in_run(runner, self.folder, name, "BestCheckpoint")

    def _save_if_best(self, runner: dl.IRunner, value: float) -> OSError | None:
        epoch = runner.epoch_step
        newest = {"file": f"epoch-{epoch:04d}.pth", "epoch": epoch, "metric": self.monitor.name, "value": value}
        # A resumed run may repeat an epoch: the new entry replaces the old one.
        ranked = self._rank_entries([*(entry for entry in self.kept_ if entry["epoch"] != epoch), newest])
        if newest not in ranked or self.folder_ is None:
            return None
        try:
            self.folder_.mkdir(parents=True, exist_ok=True)
            save_whole(self.folder_ / newest["file"], lambda file: torch.save(_validated_weights(runner), file))
            newest["sha256"] = digest(self.folder_ / newest["file"])
            self._write_index(self.folder_, ranked)
        except OSError as error:
            return error  # raised on every rank, see on_epoch_end
        self.kept_ = ranked
        return None

    def _rank_entries(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the ``top_k`` best entries, best first; among equal values the earlier epoch comes first."""
        sign = 1 if self.monitor.minimize else -1
        finite = [entry for entry in entries if math.isfinite(entry["value"])]
        return sorted(finite, key=lambda entry: (sign * entry["value"], entry["epoch"]))[: self.top_k]

    def _write_index(self, folder: Path, ranked: list[dict[str, Any]]) -> None:
        """Write the index and ``best.pth``, and remove the files of epochs that are no longer kept."""
        # Removal comes last: a process killed before leaves files too many, never an index of missing ones.
        best = {**ranked[0], "file": BEST}
        save_text(folder / INDEX, json.dumps({"checkpoints": [best, *ranked]}, indent=2) + "\n")
        link_whole(folder / ranked[0]["file"], folder / BEST)
        wanted = {entry["file"] for entry in ranked}
        for path in [*folder.glob("epoch-*.pth"), *half_written(folder)]:
            if path.name not in wanted:
                path.unlink()


def _validated_weights(runner: dl.IRunner) -> dict[str, Any]:
    """Return the weights that were validated: of a single model, or by name."""
    models = averaged_weights(runner)
    if models is None:
        models = {name: weights_of(model) for name, model in plain_modules(runner).items()}
    return models[""] if list(models) == [""] else models
