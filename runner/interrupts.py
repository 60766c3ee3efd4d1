"""Leaving a run by a signal: between two steps, on all ranks at once, with the last checkpoint whole."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from catalyst import dl

from assay.callbacks.distributed import world_size

from .agreement import Agreement
from .checkpoints import Checkpoints
from .early_stop import leave_if_told
from .exit_codes import StoppedError
from .shell import command

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SAME_S = 1.0  # a terminal and torchrun both hand on one Ctrl-C


class StopOnSignal(dl.Callback):
    """Saves and ends the run behind the step that a signal comes in: SIGINT, SIGTERM or SIGUSR1.

    A second Ctrl-C ends it at once. On several ranks one that has the signal is enough: each step of a training loader
    ends with a reduction of one number, which is looked at one step later, so that nothing waits for the device. Their
    validation, which needs no other communication, goes on to the end of the epoch.

    Args:
        folder: of the run, for the line that says how to go on.
        name: of the experiment, likewise.
        checkpoints: what saves the run.

    Raises:
        StoppedError: a signal came; on all ranks.
    """

    def __init__(self, folder: Path, name: str, checkpoints: Checkpoints):
        super().__init__(order=dl.CallbackOrder.External + 3)  # after the checkpoint
        self.folder = folder
        self.name = name
        self.checkpoints = checkpoints
        self.signal_ = 0
        self.came_ = 0.0
        self.before_: dict[int, Any] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        leave_if_told()
        self.signal_ = 0
        self.agreement_ = Agreement(runner.engine.device)
        if threading.current_thread() is threading.main_thread():  # Python handles signals there alone
            self.before_ = {number: signal.signal(number, self._note) for number in SIGNALS}
        self.hook_ = runner.register_round_hook(lambda: self._after_round(runner))

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        number = self.agreement_.settle(self.signal_)
        if number and runner.epoch_step < runner.num_epochs:
            raise self._stopped(number, f"after epoch {runner.epoch_step}", saved=True)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        self._restore()

    def on_exception(self, runner: dl.IRunner) -> None:
        self._restore()

    def _after_round(self, runner: dl.IRunner) -> None:
        if not runner.is_between_steps or (world_size() > 1 and not runner.is_train_loader):
            return
        if number := self.agreement_.exchange(self.signal_):
            saved = self.checkpoints.save_within_epoch(runner)
            where = f"in epoch {runner.epoch_step} after batch {runner.epoch_rounds}"
            raise self._stopped(number, where, saved=saved)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.signal_ == signal.SIGINT and time.monotonic() - self.came_ > _SAME_S:
            raise KeyboardInterrupt
        if not self.signal_:
            self.signal_, self.came_ = number, time.monotonic()

    def _stopped(self, number: int, where: str, *, saved: bool) -> StoppedError:
        again = command("assay", "train", self.name, "--resume", self.folder)
        outcome = "it is saved and goes on" if saved else "it was not saved, and goes on from the checkpoint before"
        name = signal.Signals(number).name
        return StoppedError(f"stopped by {name} {where}; {outcome} by: {again}", number)

    def _restore(self) -> None:
        for number, handler in self.before_.items():
            signal.signal(number, handler)
        self.before_ = {}
