"""Stop a run on a signal: between two steps, on all ranks at once, with a complete checkpoint."""

import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

from catalyst import dl

from assay.callbacks.base.order import STOP_ON_SIGNAL
from assay.callbacks.support.distributed import world_size

from ..processes.agreement import Agreement
from ..processes.early_stop import leave_unanswered, raise_if_signalled
from ..processes.exit_codes import StoppedError
from ..processes.shell import command
from ..saving.checkpoints import Checkpoints

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SAME_S = 1.0  # a terminal and torchrun both forward a Ctrl-C: within this time it counts once


class StopOnSignal(dl.Callback):
    """Saves and ends the run after the step in which SIGINT, SIGTERM or SIGUSR1 arrives.

    A second Ctrl-C ends it at once. With several ranks, a signal to one of them is enough. Validation on several ranks
    first continues to the end of the epoch.

    Args:
        folder: of the run, for the command that resumes it.
        name: of the experiment, for the same command.
        checkpoints: saves the run.

    Raises:
        StoppedError: a signal arrived; raised on all ranks.
    """

    def __init__(self, folder: Path, name: str, checkpoints: Checkpoints):
        super().__init__(order=STOP_ON_SIGNAL)
        self.folder = folder
        self.name = name
        self.checkpoints = checkpoints
        self.signal_ = 0
        self.came_ = 0.0
        self.before_: dict[int, Any] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        raise_if_signalled()
        leave_unanswered(0)
        self.signal_ = 0
        self.agreement_ = Agreement(runner.engine.device)
        if threading.current_thread() is threading.main_thread():  # Python handles signals only there
            self.before_ = {number: signal.signal(number, self._record_signal) for number in SIGNALS}
        self.hook_ = runner.register_round_hook(lambda: self._after_round(runner))

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        number = self.agreement_.settle(self.signal_)
        if number and runner.epoch_step < runner.num_epochs:  # after the last epoch the run is complete anyway
            raise self._stopped_error(number, f"after epoch {runner.epoch_step}", saved=True)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        self._restore_handlers()

    def on_exception(self, runner: dl.IRunner) -> None:
        self._restore_handlers()
        leave_unanswered(self.signal_)

    def _after_round(self, runner: dl.IRunner) -> None:
        # In training, each step ends with a reduction of one number, which is read one step later, so that nothing
        # waits for the device. Validation has no other communication, and does not get it either.
        if not runner.is_between_steps or (world_size() > 1 and not runner.is_train_loader):
            return
        if number := self.agreement_.exchange(self.signal_):
            saved = self.checkpoints.save_within_epoch(runner)
            where = f"in epoch {runner.epoch_step} after batch {runner.epoch_rounds}"
            raise self._stopped_error(number, where, saved=saved)

    def _record_signal(self, number: int, frame: FrameType | None) -> None:
        if number == self.signal_ == signal.SIGINT and time.monotonic() - self.came_ > _SAME_S:
            raise KeyboardInterrupt
        if not self.signal_:
            self.signal_, self.came_ = number, time.monotonic()

    def _stopped_error(self, number: int, where: str, *, saved: bool) -> StoppedError:
        again = command("assay", "train", self.name, "--resume", self.folder)
        outcome = "it is saved" if saved else "it was not saved, and continues from the checkpoint before"
        name = signal.Signals(number).name
        return StoppedError(f"stopped by {name} {where}; {outcome}; continue it with: {again}", number)

    def _restore_handlers(self) -> None:
        for number, handler in self.before_.items():
            signal.signal(number, handler)
        self.before_ = {}
