"""A signal that comes before a run is under way: it ends the process as one that comes later does, and leaves nothing.

It imports next to nothing, so that a command can be ready for signals before it imports torch.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StoppedEarly(BaseException):
    """SIGTERM or SIGUSR1 came while nothing was under way that could be saved.

    It is no ``Exception``: an import that is tried, and done without where it fails, lets it through.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number

    @property
    def signal_name(self) -> str:
        """The name of the signal."""
        return signal.Signals(self.number).name


class _Watch:
    """Raises where a signal comes, unless signals are held: then as soon as they are not."""

    def __init__(self) -> None:
        self.held = 0
        self.came = 0

    def note(self, number: int, frame: FrameType | None) -> None:
        self.came = self.came or number
        self.leave_if_told()

    def leave_if_told(self) -> None:
        if self.came and not self.held:
            number, self.came = self.came, 0
            raise StoppedEarly(number)


_watch = _Watch()


@contextmanager
def stops_early() -> Iterator[None]:
    """Have SIGTERM and SIGUSR1 raise ``StoppedEarly`` in the block, unless something in it handles them otherwise."""
    if threading.current_thread() is not threading.main_thread():  # Python handles signals there alone
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
    """Have signals wait for the end of the block, in which something is made that has to be known to be undone."""
    _watch.held += 1
    try:
        yield
    finally:
        _watch.held -= 1


def leave_if_told() -> None:
    """Raise ``StoppedEarly`` where a signal came while signals were held."""
    _watch.leave_if_told()
