"""Handle signals that arrive before a run has started: end the process cleanly and leave nothing behind."""

# This module imports next to nothing, so that a command can handle signals before it imports torch.

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StoppedEarly(BaseException):
    """SIGTERM or SIGUSR1 arrived before there was anything to save.

    Args:
        number: of the signal.
    """

    # Not an Exception: code that tries an optional import and catches Exception must not swallow it.

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number

    @property
    def signal_name(self) -> str:
        """The name of the signal."""
        return signal.Signals(self.number).name


class _Watch:
    """Raises when a signal arrives, or once signals are no longer held."""

    def __init__(self) -> None:
        self.held = 0
        self.came = 0
        self.unanswered = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        self.came = self.came or number  # the first one is reported
        self.raise_if_signalled()

    def raise_if_signalled(self) -> None:
        if self.came and not self.held:
            number, self.came = self.came, 0
            raise StoppedEarly(number)


_watch = _Watch()


@contextmanager
def stops_early() -> Iterator[None]:
    """Make SIGTERM and SIGUSR1 raise ``StoppedEarly`` in the block, unless code in it sets other handlers."""
    if threading.current_thread() is not threading.main_thread():  # Python handles signals only there
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, _watch.note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def held_signals() -> Iterator[None]:
    """Hold signals back until ``raise_if_signalled``, while something is created that must be undone afterwards."""
    # A signal between the creation of a folder and its registration would leave the folder behind.
    _watch.held += 1
    try:
        yield
    finally:
        _watch.held -= 1


def raise_if_signalled() -> None:
    """Raise ``StoppedEarly`` if a signal arrived while signals were held."""
    _watch.raise_if_signalled()


def leave_unanswered(number: int) -> None:
    """Note a signal that was to end a run after its step, and that an error came before; 0 for none."""
    _watch.unanswered = number


def unanswered_signal() -> int:
    """Return the signal that ``leave_unanswered`` was called with."""
    return _watch.unanswered
