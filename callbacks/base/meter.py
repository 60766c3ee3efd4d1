"""Times one diagnostic, in the loop and in the thread that draws, and leaves out its pictures."""

from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import numpy as np

from ..measures.overhead_budget import FIXED, PICTURES, Label, Laps
from ..tensorboard.writer import ForwardingWriter, Sink, Writer


class Meter:
    """What ``OverheadBudget`` knows of one diagnostic, and tells it.

    Args:
        name: of the diagnostic, unique in the run.
        laps: of the loop, which all diagnostics share. While they are of nothing, no time is taken.
        thread_clock: gives the CPU time of the calling thread, in seconds; None: drawing takes no time of the loop.

    Attributes:
        draws: whether pictures of this epoch are drawn.
        epoch: the epoch that runs.
        drawn: label, ms and epoch of what the thread did, the newest last.
    """

    def __init__(self, name: str, laps: Laps, thread_clock: Callable[[], float] | None):
        self.name = name
        self.laps = laps
        self.thread_clock = thread_clock
        self.draws = True
        self.epoch = 0
        self.drawn: deque[tuple[Label, float, int]] = deque()

    def time(self, kind: str = FIXED, every: int = 1) -> AbstractContextManager[None]:
        """Return a context whose time counts as the diagnostic's; see ``Label`` for the arguments."""
        return _Lap(self, kind, every)

    def run(self, work: Callable[[Sink], Any], label: Label, epoch: int, sink: Sink) -> None:
        """Do work of the writer's thread, and keep what CPU time it took."""
        if self.thread_clock is None:
            work(sink)
            return
        start = self.thread_clock()
        work(sink)
        self.drawn.append((label, 1000.0 * (self.thread_clock() - start), epoch))


class _Lap(AbstractContextManager[None]):
    """Takes the time of a part of the loop, from which it gives way to what it interrupted."""

    def __init__(self, meter: Meter, kind: str, every: int):
        self.meter, self.kind, self.every = meter, kind, every
        self.before: Label | None = None

    def __enter__(self) -> None:
        laps = self.meter.laps
        self.before = laps.label
        if self.before is not None:
            laps.begin(Label(self.before.loader, self.meter.name, self.kind, self.every))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.before is not None:
            self.meter.laps.begin(self.before)


class _TimedWriter(ForwardingWriter):
    """Hands everything on to a writer, and counts its time as one kind of a diagnostic's work."""

    def __init__(self, writer: Writer, loader_key: str, meter: Meter, kind: str):
        super().__init__(writer)
        self.loader_key, self.meter, self.kind = loader_key, meter, kind

    def wrap(self, work: Callable[[Sink], Any]) -> Callable[[Sink], Any]:
        """Return the work with its time taken, which counts for the epoch of the call."""
        label, epoch = Label(self.loader_key, self.meter.name, self.kind), self.meter.epoch
        return lambda sink: self.meter.run(work, label, epoch, sink)


class MeteredWriter(_TimedWriter):
    """Hands everything on to a writer with the time taken, and leaves out pictures in epochs that draw none.

    Args:
        writer: of the event folder.
        loader_key: the loader that it belongs to.
        meter: of the diagnostic that writes.
    """

    def __init__(self, writer: Writer, loader_key: str, meter: Meter):
        super().__init__(writer, loader_key, meter, FIXED)
        self.pictures = _TimedWriter(writer, loader_key, meter, PICTURES)

    def image(self, tag: str, draw: Callable[[], np.ndarray], step: int, *, once: bool = False) -> None:
        """Write one picture, see ``Writer.image``; nothing in an epoch that draws none, unless it comes only once."""
        if once:
            # Its time is not that of pictures: there is nothing to gain from drawing them in fewer epochs.
            super().image(tag, draw, step)
        elif self.meter.draws:
            self.pictures.image(tag, draw, step)
