"""Leaving a run by a signal: between two steps, on all ranks at once, with the last checkpoint whole."""

import shlex
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from catalyst import dl

from assay.callbacks.distributed import world_size

from .exit_codes import StoppedError
from .rank import notice_lost_machines

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SAME_S = 1.0  # a terminal and torchrun both hand on one Ctrl-C


class StopOnSignal(dl.Callback):
    """Ends the run after the step, or the epoch's checkpoint, that a signal comes in: SIGINT, SIGTERM or SIGUSR1.

    A second Ctrl-C ends it at once. On several ranks one that has the signal is enough: each step of a training loader
    ends with a reduction of one number, through gloo beside the training, that is looked at one step later, so that
    neither the device nor the other ranks are waited for. Their validation, of which ranks have different numbers of
    steps, goes on to the end of the epoch.

    Args:
        folder: of the run, for the line that says how to go on.
        name: of the experiment, likewise.

    Raises:
        StoppedError: a signal came; on all ranks.
    """

    def __init__(self, folder: Path, name: str):
        super().__init__(order=dl.CallbackOrder.External + 3)  # after the checkpoint
        self.folder = folder
        self.name = name
        self.signal_ = 0
        self.came_ = 0.0
        self.before_: dict[int, Any] = {}
        self.group_: dist.ProcessGroup | None = None
        self.pending_: dist.Work | None = None

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.signal_ = 0
        self.flag_ = torch.zeros(1, dtype=torch.int32)
        self.group_ = self.pending_ = None
        if world_size() > 1:
            group: Any = dist.new_group(backend="gloo")
            self.group_ = group
            notice_lost_machines()
        if threading.current_thread() is threading.main_thread():  # Python handles signals there alone
            self.before_ = {number: signal.signal(number, self._note) for number in SIGNALS}
        self.hook_ = runner.register_round_hook(lambda: self._after_round(runner))

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        self._reduce()
        if (number := self._agreed()) and runner.epoch_step < runner.num_epochs:
            raise self._stopped(number, f"after epoch {runner.epoch_step}", runner.epoch_step)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        self._restore()

    def on_exception(self, runner: dl.IRunner) -> None:
        self._restore()

    def _after_round(self, runner: dl.IRunner) -> None:
        if self.group_ is not None and not runner.is_train_loader:
            return
        number = self._agreed()
        if number:
            raise self._stopped(number, f"in epoch {runner.epoch_step}", runner.epoch_step - 1)
        self._reduce()

    def _reduce(self) -> None:
        """Begin to tell the other ranks."""
        self._agreed()
        self.flag_.fill_(max(self.signal_, int(self.flag_)))
        if self.group_ is not None:
            self.pending_ = dist.all_reduce(self.flag_, op=dist.ReduceOp.MAX, group=self.group_, async_op=True)

    def _agreed(self) -> int:
        """Return the signal that a rank had when the last reduction began; 0: none had."""
        if self.pending_ is not None:
            self.pending_.wait()
            self.pending_ = None
        return int(self.flag_) if self.group_ is not None else self.signal_

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.signal_ == signal.SIGINT and time.monotonic() - self.came_ > _SAME_S:
            raise KeyboardInterrupt
        if not self.signal_:
            self.signal_, self.came_ = number, time.monotonic()

    def _stopped(self, number: int, where: str, saved: int) -> StoppedError:
        name = signal.Signals(number).name
        if saved == 0:
            return StoppedError(f"stopped by {name} {where}, before the first checkpoint", number)
        command = shlex.join(["assay", "train", self.name, "--resume", str(self.folder)])
        return StoppedError(
            f"stopped by {name} {where}; from the checkpoint of epoch {saved} goes on: {command}", number
        )

    def _restore(self) -> None:
        for number, handler in self.before_.items():
            signal.signal(number, handler)
        self.before_ = {}
