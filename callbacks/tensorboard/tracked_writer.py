"""A writer whose scalars, pictures and texts also go to trackers such as W&B and MLflow."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .summaries import add_picture
from .trackers import Entry, Outbox
from .writer import ForwardingWriter, Sink, Writer


class TrackedWriter(ForwardingWriter):
    """Hands everything on to a writer, and at the end of an epoch what was written to the trackers.

    Until then the loop waits for no drawing; at the end of the epoch it waits for everything that was queued.

    Args:
        writer: of the event folder.
        outbox: collects what the trackers get.
    """

    def __init__(self, writer: Writer, outbox: Outbox):
        super().__init__(writer)
        self.outbox = outbox

    def wrap(self, work: Callable[[Sink], Any]) -> Callable[[Sink], Any]:
        """Return the work on a sink that also fills the outbox."""
        return lambda sink: work(_Tee(sink, self.outbox))

    def drain(self) -> None:
        """Wait until everything queued is in the event file, and deliver it; raise the error of the thread."""
        try:
            self.writer.drain()
        finally:
            # After an error too: what was written before it belongs to the trackers as well.
            self.outbox.deliver()

    def end_epoch(self) -> None:
        """Wait until everything queued is written, and deliver it."""
        # Trackers refuse or drop what comes after the metrics of a later step: see ``Outbox``.
        self.drain()

    def close(self) -> None:
        """Drain and close the event file."""
        try:
            self.drain()
        finally:
            self.writer.close()


class _Tee:
    """A sink that also puts scalars, pictures and texts into the outbox; of other kinds trackers get nothing."""

    def __init__(self, sink: Any, outbox: Outbox):
        self._sink, self._outbox = sink, outbox

    def __getattr__(self, name: str) -> Any:
        # Histograms, curves and summaries go to the event file alone.
        return getattr(self._sink, name)

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> None:
        self._sink.add_scalar(tag, scalar_value, global_step)
        self._outbox.add(Entry("scalar", tag, float(scalar_value), global_step or 0))

    def add_text(self, tag: str, text_string: str, global_step: int | None = None) -> None:
        self._sink.add_text(tag, text_string, global_step)
        self._outbox.add(Entry("text", tag, text_string, global_step or 0))

    def add_picture(self, tag: str, picture: np.ndarray, step: int) -> None:
        add_picture(self._sink, tag, picture, step)
        self._outbox.add(Entry("picture", tag, picture, step))


class NoEventFile:
    """The sink of a run that has trackers alone: it accepts every kind of value and keeps nothing."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> None: ...
    def add_text(self, tag: str, text_string: str, global_step: int | None = None) -> None: ...
    def add_picture(self, tag: str, picture: np.ndarray, step: int) -> None: ...
    def add_summary(self, summary: Any, step: int | None = None) -> None: ...
    def add_histogram_raw(self, tag: str, **counts: Any) -> None: ...
    def add_pr_curve_raw(self, tag: str, *values: Any, **settings: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
