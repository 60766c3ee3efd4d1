"""Leaving a run by a signal: between two steps, on all ranks at once, with the last checkpoint whole."""

import shlex
import signal
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from catalyst import dl

from assay.callbacks.distributed import reduce_state, world_size
from assay.callbacks.host_copy import HostCopy

from .exit_codes import StoppedError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SAME_S = 1.0  # a terminal and torchrun both hand on one Ctrl-C


class StopOnSignal(dl.Callback):
    """Ends the run after the step, or the epoch's checkpoint, that a signal comes in: SIGINT, SIGTERM or SIGUSR1.

    A second Ctrl-C ends it at once. On several ranks one that has the signal is enough: each step of a training loader
    ends with a reduction of one number, which is looked at one step later, so that nothing waits for the device. Their
    validation, of which ranks have different numbers of steps, goes on to the end of the epoch.

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
        self.agreed_: HostCopy | None = None

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.signal_ = 0
        self.agreed_ = None
        if threading.current_thread() is threading.main_thread():  # Python handles signals there alone
            self.before_ = {number: signal.signal(number, self._note) for number in SIGNALS}
        self.hook_ = runner.register_round_hook(lambda: self._after_round(runner))

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        self._agree(runner)
        if (number := self._agreed()) and runner.epoch_step < runner.num_epochs:
            raise self._stopped(number, f"after epoch {runner.epoch_step}", runner.epoch_step)

    def on_experiment_end(self, runner: dl.IRunner) -> None:
        self._restore()

    def on_exception(self, runner: dl.IRunner) -> None:
        self._restore()

    def _after_round(self, runner: dl.IRunner) -> None:
        if world_size() > 1 and not runner.is_train_loader:
            return
        if number := self._agreed():
            raise self._stopped(number, f"in epoch {runner.epoch_step}", runner.epoch_step - 1)
        self._agree(runner)

    def _agree(self, runner: dl.IRunner) -> None:
        """Begin to tell the other ranks."""
        if world_size() > 1:
            flag = torch.full((1,), self.signal_, dtype=torch.int32, device=runner.engine.device)
            self.agreed_ = HostCopy(reduce_state({"signal": flag}, {"signal": "max"})["signal"])

    def _agreed(self) -> int:
        """Return the signal that a rank had when it last told; 0: none had."""
        if world_size() == 1:
            return self.signal_
        return 0 if self.agreed_ is None else int(self.agreed_.read()[0])

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
