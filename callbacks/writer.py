"""Writing to TensorBoard from a thread of its own, so that drawing and encoding leave the training loop."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import BoundedSemaphore
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from .errors import UsageError
from .host_copy import HostCopy
from .printable import printable
from .summaries import add_picture


class Sink(Protocol):
    """What a writer needs of a ``SummaryWriter``: torch's and tensorboardX's both have it."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> Any: ...
    def add_text(self, tag: str, text_string: str, global_step: int | None = None) -> Any: ...
    def flush(self) -> Any: ...
    def close(self) -> Any: ...


class Writer:
    """Writes to one event folder, in the order of the calls, without making the caller wait for it.

    Calls return at once; the work is done by one thread through a bounded queue, and a call waits only while
    the queue is full. Where the work fails, the error is raised, with its own traceback, by the next call or by
    ``drain``; what was queued behind it is dropped. One of the disk names the event folder.

    Args:
        sink: a ``SummaryWriter`` bound to the event folder. None: nothing is kept, for ranks that do not write.
        queue_size: number of pieces of work that may wait, at least 1.

    Raises:
        UsageError: ``queue_size`` is out of range.
    """

    def __init__(self, sink: Sink | None, *, queue_size: int = 64):
        if queue_size < 1:
            raise UsageError(f"queue_size must be at least 1, got {queue_size}.")
        self._sink = sink
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="assay-writer")
        self._slots = BoundedSemaphore(queue_size)
        self._error: BaseException | None = None
        self._raised = False

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write one number a tag."""
        self.submit(lambda sink: _add_scalars(sink, values, step))

    def scalars_later(self, names: list[str], values: Tensor, step: int) -> None:
        """Write numbers that are still on the device.

        Args:
            names: one tag a value.
            values: [len(names)], on any device; it is copied without waiting and read by the thread.
            step: the step to write them at.
        """
        copy = HostCopy(values)
        self.submit(lambda sink: _add_scalars(sink, dict(zip(names, copy.read().tolist(), strict=True)), step))

    def image(self, tag: str, draw: Callable[[], np.ndarray], step: int) -> None:
        """Write one picture.

        Args:
            tag: its tag.
            draw: called in the thread; returns [H, W, 3], uint8, RGB. It must not touch what the loop changes.
            step: the step to write it at.
        """
        self.submit(lambda sink: add_picture(sink, tag, draw(), step))

    def text(self, tag: str, markdown: str | Callable[[], str], step: int) -> None:
        """Write a text; TensorBoard renders it as Markdown and adds ``/text_summary`` to the tag.

        Args:
            tag: its tag.
            markdown: the text, or what returns it, called in the thread.
            step: the step to write it at.
        """
        self.submit(lambda sink: sink.add_text(tag, printable(markdown() if callable(markdown) else markdown), step))

    def submit(self, work: Callable[[Sink], Any]) -> None:
        """Queue any work on the sink, for kinds of values that have no method here."""
        self._raise_error()
        if self._sink is None:
            return
        self._slots.acquire()
        self._thread.submit(self._run, work)

    def flush(self) -> None:
        """Have all that was queued until now put into the event file, without waiting for it."""
        self.submit(lambda sink: sink.flush())

    def drain(self) -> None:
        """Wait until all that was queued is in the event file; raise what went wrong on the way."""
        if self._sink is not None:
            self._thread.submit(self._run, lambda sink: sink.flush(), release=False).result()
        self._raise_error()

    def end_epoch(self) -> None:
        """Hand on what has to be elsewhere before the next epoch; the event file takes it whenever it comes."""

    def close(self) -> None:
        """Drain, and close the event file; the writer takes nothing afterwards."""
        try:
            self.drain()
        finally:
            self._thread.shutdown()
            if self._sink is not None:
                self._sink.close()
                self._sink = None

    def _run(self, work: Callable[[Sink], Any], release: bool = True) -> None:
        try:
            if self._error is None and self._sink is not None:
                work(self._sink)
        except OSError as error:
            if error.filename is None:  # a failed write does not know it
                error.filename = getattr(self._sink, "log_dir", None) or getattr(self._sink, "logdir", None)
            self._error = error
        except BaseException as error:  # it belongs to the loop's thread, which raises it: see _raise_error
            self._error = error
        finally:
            if release:
                self._slots.release()

    def _raise_error(self) -> None:
        if self._error is not None and not self._raised:
            self._raised = True
            raise self._error


def _add_scalars(sink: Sink, values: Mapping[str, float], step: int) -> None:
    for tag, value in values.items():
        sink.add_scalar(tag, value, step)
