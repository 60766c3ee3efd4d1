"""A writer whose pictures, scalars and texts also go to trackers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .summaries import add_picture
from .trackers import Entry, Outbox
from .writer import Sink, Writer


class TrackedWriter(Writer):
    """Hands all on to a writer, and what it has written to trackers when the epoch ends.

    Until then the loop waits for no drawing; then it waits for all that was queued.

    Args:
        writer: of the event folder.
        outbox: takes what the trackers are to get.
    """

    def __init__(self, writer: Writer, outbox: Outbox):  # without a thread of its own
        self.writer = writer
        self.outbox = outbox

    def submit(self, work: Callable[[Sink], Any]) -> None:
        """Queue any work on the sink."""
        self.writer.submit(lambda sink: work(_Tee(sink, self.outbox)))

    def drain(self) -> None:
        """Wait until all that was queued is in the event file, and hand it on; raise what went wrong on the way."""
        try:
            self.writer.drain()
        finally:
            self.outbox.deliver()

    def end_epoch(self) -> None:
        """Wait until all that was queued is written, and hand it on."""
        self.drain()

    def close(self) -> None:
        """Drain, and close the event file."""
        try:
            self.drain()
        finally:
            self.writer.close()


class _Tee:
    """A sink that also keeps scalars, pictures and texts for the trackers."""

    def __init__(self, sink: Any, outbox: Outbox):
        self._sink, self._outbox = sink, outbox

    def __getattr__(self, name: str) -> Any:
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
    """The sink of a run that has trackers alone: it takes what is written, and keeps nothing."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> None: ...
    def add_text(self, tag: str, text_string: str, global_step: int | None = None) -> None: ...
    def add_picture(self, tag: str, picture: np.ndarray, step: int) -> None: ...
    def add_summary(self, summary: Any, step: int | None = None) -> None: ...
    def add_histogram_raw(self, tag: str, **counts: Any) -> None: ...
    def add_pr_curve_raw(self, tag: str, *values: Any, **settings: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...
