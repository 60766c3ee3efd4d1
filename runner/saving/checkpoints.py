"""Save checkpoints: each is written whole or not at all, the last ones and the best ones are kept."""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from catalyst import dl
from catalyst.core.callback import ICheckpointCallback

from assay.callbacks.base.order import CHECKPOINTS
from assay.callbacks.errors import UsageError, at_least_one, listing, unknown_name
from assay.callbacks.support.atomic_files import digest, half_written, link_whole, save_text, save_whole
from assay.callbacks.support.distributed import from_main_rank

from ..choices import ON_SAVE_ERROR
from ..processes.agreement import Agreement
from ..recipe.monitor import History, Monitor
from .callback_states import without_loader_state
from .checkpoint_files import FORMAT, INDEX, checkpoint_file, epoch_file, load_checkpoint, read_index, validated_weights
from .plain_values import plain_state

_KEPT = 2  # newest epochs: where the last one's file is damaged, a resumed run goes on from the one before
_log = logging.getLogger("assay")


class Checkpoints(ICheckpointCallback):
    """Saves a checkpoint at the end of every epoch, and within it if asked to, and keeps the last and the best.

    ============================ =====================================================================
    file                         content
    ============================ =====================================================================
    ``epoch-0003.pt``            the run after epoch 3; kept while it is one of the last two, or among the best
    ``epoch-0004-batch-0020.pt`` the run within epoch 4, when each process has done 20 batches of it, over all its
                                 loaders; kept until the next checkpoint
    ``last.pt``                  the same file as that of the last checkpoint
    ``best.pt``                  the same file as that of the best epoch by the first monitor
    ``index.json``               for each file its epoch, metric, value and sha256, and ``batch`` within an epoch
    ============================ =====================================================================

    From a checkpoint within an epoch as many processes go on as there were. What a callback has observed of the loader
    until then is kept where it has ``loader_state`` and ``load_loader_state``, as those of assay have.

    Each file is written under a temporary name and renamed, the index after the files that it names, and older files
    are removed last: a write that fails leaves the checkpoints of before as they are.

    Args:
        folder: where to write.
        monitors: metrics to choose by, each with its own best epochs; the first decides ``best.pt``.
        top_k: how many best epochs to keep by each monitor.
        extra: more entries for each checkpoint, of plain values (see ``plain_state``).
        load_best_on_end: whether the model has the best epoch's weights when the run has ended.
        on_save_error: what a write that fails does: ``stop`` the run, or ``warn`` and go on without this checkpoint.
        every_n_steps: save after so many optimizer steps since the last checkpoint too; None: not by steps.
        every_minutes: save after the first step of a train loader that comes so long after the last checkpoint, by the
            main process's clock; None: not by time.
        clock: returns seconds.

    Raises:
        UsageError: an argument is out of range; a part of the run has a state that a checkpoint cannot hold, at the
            start of the run or at the first checkpoint, before anything is written; at the end of the first epoch, when
            a monitor names no metric of the run.
        OSError: on every rank, when a checkpoint cannot be written; it names the file.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        monitors: Sequence[Monitor] = (),
        *,
        top_k: int = 1,
        extra: dict[str, Any] | None = None,
        load_best_on_end: bool = False,
        on_save_error: str = "stop",
        every_n_steps: int | None = None,
        every_minutes: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.order = CHECKPOINTS
        if top_k < 1:
            raise UsageError(f"top_k must be at least 1, got {top_k}.")
        if on_save_error not in ON_SAVE_ERROR:
            raise unknown_name("on_save_error", on_save_error, ON_SAVE_ERROR)
        self.folder = Path(folder)
        self.monitors = list(monitors)
        self.top_k = top_k
        self.extra = plain_state(extra or {})
        self.load_best_on_end = load_best_on_end
        self.on_save_error = on_save_error
        self.every_n_steps = None if every_n_steps is None else at_least_one("every_n_steps", every_n_steps)
        if every_minutes is not None and not every_minutes > 0:
            raise UsageError(f"every_minutes must be greater than 0, got {every_minutes!r}.")
        self.every_minutes = every_minutes
        self.clock = clock

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.agreement_ = Agreement(runner.engine.device)
        self.without_loader_state_ = without_loader_state(runner.callbacks.values())
        # What cannot be saved is found now, and not after the hours of an epoch.
        plain_state(runner.state_of_parts())
        self._restart_interval()
        if self.every_n_steps is not None or self.every_minutes is not None:
            runner.register_round_hook(lambda: self._after_round(runner))

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        for monitor in self.monitors:
            monitor.of_epoch(runner)  # a name that does not exist fails before anything is saved
        self._save_on_all(runner, within_epoch=False)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        best = self.folder / "best.pt"
        if self.load_best_on_end and best.exists():
            runner.load_model_state(validated_weights(load_checkpoint(best)))

    def save_within_epoch(self, runner: dl.IRunner) -> bool:
        """Save the run at the end of a round, where it ``is_between_steps``. A collective.

        Returns:
            Whether it was saved; with ``on_save_error="stop"`` it was.
        """
        return self._save_on_all(runner, within_epoch=True)

    def _after_round(self, runner: dl.IRunner) -> None:
        if not runner.is_train_loader or not runner.is_between_steps:
            return
        self.steps_ += 1
        due = self.every_n_steps is not None and self.steps_ >= self.every_n_steps
        if self.every_minutes is not None:
            # By one clock: the ranks' clocks differ, and saving is a collective that all begin at the same round.
            late = runner.engine.is_main_process and self.clock() - self.saved_at_ >= 60 * self.every_minutes
            due |= bool(self.agreement_.exchange(int(late)))
        if due:
            self.save_within_epoch(runner)

    def _restart_interval(self) -> None:
        self.steps_, self.saved_at_ = 0, self.clock()

    def _save_on_all(self, runner: dl.IRunner, *, within_epoch: bool) -> bool:
        if within_epoch:
            self._warn_of_callbacks_without_state(runner)
        # On all ranks: the state holds what each of them draws and has observed.
        state = {"format": FORMAT, **runner.state_dict(within_epoch=within_epoch), **self.extra}
        batch = runner.epoch_rounds if within_epoch else None
        # An error goes to all ranks, so that all stop, or all go on.
        error = from_main_rank(self._save(state, runner, batch) if runner.engine.is_main_process else None)
        self._restart_interval()
        if isinstance(error, UsageError) or (error is not None and self.on_save_error == "stop"):
            raise error
        return error is None

    def _warn_of_callbacks_without_state(self, runner: dl.IRunner) -> None:
        names, self.without_loader_state_ = self.without_loader_state_, []
        if names and runner.engine.is_main_process:
            _log.warning(
                "a checkpoint within an epoch holds nothing of what %s saw of it: when the run goes on there, they "
                "report of that epoch what came after", listing(names),
            )  # fmt: skip

    def _save(self, state: dict[str, Any], runner: dl.IRunner, batch: int | None) -> OSError | UsageError | None:
        newest = {"epoch": runner.epoch_step} | ({} if batch is None else {"batch": batch})
        path = self.folder / checkpoint_file(newest)
        try:
            plain = plain_state(state)
            self.folder.mkdir(parents=True, exist_ok=True)
            save_whole(path, lambda file: torch.save(plain, file))
            self._update_index(newest, runner.history)
        except UsageError as error:
            return error
        except OSError as error:
            if self.on_save_error == "warn":
                _log.warning(
                    "%s was not saved: %s cannot be written: %s. The run goes on (--on-save-error warn), and can be "
                    "resumed from the checkpoints of before.", path, error.filename, error.strerror,
                )  # fmt: skip
            return error
        return None

    def _update_index(self, newest: dict[str, int], history: History) -> None:
        digests = {entry["file"]: entry["sha256"] for entry in read_index(self.folder)}
        digests[checkpoint_file(newest)] = digest(self.folder / checkpoint_file(newest))
        entries = []
        for entry in self._wanted(newest, history):
            if checkpoint_file(entry) in digests and entry not in entries:
                entries.append(entry)
        signed = [{**entry, "sha256": digests[checkpoint_file(entry)]} for entry in entries]
        # After the files that it names, and before older ones are removed: whenever a write fails, all that the index
        # on the disk names is there.
        index = json.dumps({"checkpoints": signed}, indent=2) + "\n"
        save_text(self.folder / INDEX, index)
        for entry in entries:
            if entry["file"] != checkpoint_file(entry):  # best.pt and last.pt are names of files that are there
                link_whole(self.folder / checkpoint_file(entry), self.folder / entry["file"])
        kept = {entry["file"] for entry in entries}
        for path in [*self.folder.glob("epoch-*.pt"), *half_written(self.folder)]:
            if path.name not in kept:
                path.unlink()

    def _wanted(self, newest: dict[str, int], history: History) -> Iterator[dict[str, Any]]:
        """Yield an index entry for each file that is to be there, without its sha256."""
        for monitor in self.monitors:
            for epoch in monitor.ranking(history)[: self.top_k]:
                yield _entry(epoch_file(epoch), epoch, monitor, history)
        first = self.monitors[0] if self.monitors else None
        if first is not None and (best := first.best(history)) is not None:
            yield _entry("best.pt", best, first, history)
        for epoch in sorted(history)[-_KEPT:]:
            yield _entry(epoch_file(epoch), epoch, first, history)
        if "batch" in newest:
            for file in (checkpoint_file(newest), "last.pt"):
                yield {"file": file, **newest, "metric": None, "value": None}
        else:
            yield _entry("last.pt", newest["epoch"], first, history)


def _entry(file: str, epoch: int, monitor: Monitor | None, history: History) -> dict[str, Any]:
    metric = None if monitor is None else monitor.name
    value = math.nan if monitor is None else monitor.known(history[epoch])
    return {"file": file, "epoch": epoch, "metric": metric, "value": value if math.isfinite(value) else None}
