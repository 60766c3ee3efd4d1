"""Measures the time of one diagnostic, in the loop and in the writer's thread, and leaves out its pictures."""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as np

from ..measures.overhead_budget import FIXED, PICTURES, Label, Laps
from ..tensorboard.writer import ForwardingWriter, Sink, Writer


class Meter:
    """Connects one diagnostic with the ``OverheadBudget`` of the run: its time one way, whether it draws the other.

    Args:
        name: name of the diagnostic, unique in the run.
        laps: the stopwatch of the loop, which all diagnostics share. As long as it runs for nothing, no time is
            measured.
        thread_clock: returns the CPU time of the calling thread, in seconds; None: drawing takes no time from the loop.

    Attributes:
        draws: whether to draw the pictures of this epoch.
        epoch: the current epoch.
        drawn: label, milliseconds and epoch of the work that the thread did, the newest last.
    """

    def __init__(self, name: str, laps: Laps, thread_clock: Callable[[], float] | None):
        self.name = name
        self.laps = laps
        self.thread_clock = thread_clock
        self.draws = True
        self.epoch = 0
        # A deque, as the thread appends while the loop takes from the other end, without a lock.
        self.drawn: deque[tuple[Label, float, int]] = deque()

    def time(self, kind: str = FIXED, every: int = 1) -> AbstractContextManager[None]:
        """Return a context whose time counts as the diagnostic's; see ``Label`` for the arguments."""
        return _Lap(self, kind, every)

    def run(self, work: Callable[[Sink], Any], label: Label, epoch: int, sink: Sink) -> None:
        """Do work of the writer's thread, and keep the CPU time that it took."""
        # CPU time, as the time that the thread spends waiting costs the loop nothing.
        if self.thread_clock is None:
            work(sink)
            return
        start = self.thread_clock()
        work(sink)
        self.drawn.append((label, 1000.0 * (self.thread_clock() - start), epoch))


class _Lap(AbstractContextManager[None]):
    """Measures the time of a part of the loop, which interrupts the measurement of what surrounds it."""

    def __init__(self, meter: Meter, kind: str, every: int):
        self.meter, self.kind, self.every = meter, kind, every
        self.before: Label | None = None

    def __enter__(self) -> None:
        laps = self.meter.laps
        # One stopwatch with one label at a time: no time counts twice, also where diagnostics are nested.
        self.before = laps.label
        if self.before is not None:
            laps.begin(Label(self.before.loader, self.meter.name, self.kind, self.every))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.before is not None:
            self.meter.laps.begin(self.before)


class _TimedWriter(ForwardingWriter):
    """Forwards everything to a writer, and counts the time as one kind of work of a diagnostic."""

    def __init__(self, writer: Writer, loader_key: str, meter: Meter, kind: str):
        super().__init__(writer)
        self.loader_key, self.meter, self.kind = loader_key, meter, kind

    def wrap(self, work: Callable[[Sink], Any]) -> Callable[[Sink], Any]:
        """Return the work with its time measured, which counts for the epoch of this call."""
        # Read now, not in the thread, which may draw when a later epoch has begun.
        label, epoch = Label(self.loader_key, self.meter.name, self.kind), self.meter.epoch
        return lambda sink: self.meter.run(work, label, epoch, sink)


class MeteredWriter(_TimedWriter):
    """Forwards everything to a writer with its time measured, and leaves out pictures in epochs that draw none.

    Args:
        writer: the writer of the event folder.
        loader_key: the loader that the folder belongs to.
        meter: the meter of the diagnostic that writes.
    """

    def __init__(self, writer: Writer, loader_key: str, meter: Meter):
        super().__init__(writer, loader_key, meter, FIXED)
        self.pictures = _TimedWriter(writer, loader_key, meter, PICTURES)

    def image(self, tag: str, draw: Callable[[], np.ndarray], step: int, *, once: bool = False) -> None:
        """Write one picture, see ``Writer.image``; in an epoch that draws none, only if it is written once per run."""
        if once:
            # Its time does not count as pictures: drawing those in fewer epochs would not save it.
            super().image(tag, draw, step)
        elif self.meter.draws:
            self.pictures.image(tag, draw, step)
