"""The interface through which every diagnostic writes: one method per kind of value, done by a thread of its own."""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import BoundedSemaphore
from typing import Any, Protocol

import numpy as np
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from ..errors import UsageError
from ..support.host_copy import HostCopy
from ..support.printable import printable
from .kept_pictures import KeepPicture, KeptPictures
from .projector_files import Embedding, write_embedding
from .summaries import add_picture, add_summary, event_folder

_log = logging.getLogger("assay")


class Sink(Protocol):
    """What a writer needs of a ``SummaryWriter``: torch's and tensorboardX's both have it."""

    def add_scalar(self, tag: str, scalar_value: Any, global_step: int | None = None) -> Any: ...
    def add_text(self, tag: str, text_string: str, global_step: int | None = None) -> Any: ...
    def add_histogram_raw(self, tag: str, *values: Any, **named: Any) -> Any: ...
    def add_pr_curve_raw(self, tag: str, *values: Any, **named: Any) -> Any: ...
    def flush(self) -> Any: ...
    def close(self) -> Any: ...


@dataclass(frozen=True)
class Histogram:
    """A distribution that was counted elsewhere.

    Args:
        counts: [B], at least 0; how many values lie in each bar.
        limits: [B], ascending; the upper edge of each bar.
        low: no value is smaller.
        high: no value is larger.
        total: the sum of all values.
        total_of_squares: the sum of their squares.
    """

    counts: np.ndarray
    limits: np.ndarray
    low: float
    high: float
    total: float
    total_of_squares: float


class Writer:
    """Writes to one event folder, in the order of the calls, without making the caller wait.

    There is one method per kind of value; nothing else reaches the event folder. Calls return at once: a single thread
    does the work from a bounded queue, and a call waits only while the queue is full. What a method takes as a
    function is called in that thread: it must not touch what the loop changes, nor write by the writer, which would
    wait for itself where the queue is full. ``step`` is an epoch or a number of samples; it may repeat.

    If the work fails, the next call, or ``drain``, raises the error with its own traceback, once; everything queued
    after it is dropped. An error of the disk names the event folder.

    Args:
        sink: a ``SummaryWriter`` bound to the event folder. None: everything is dropped, for ranks that do not write.
        queue_size: how many pieces of work may wait, at least 1.

    Raises:
        UsageError: ``queue_size`` is out of range.
    """

    def __init__(self, sink: Sink | None, *, queue_size: int = 64):
        if queue_size < 1:
            raise UsageError(f"queue_size must be at least 1, got {queue_size}.")
        self._sink = sink
        # One thread, so that the event file has the order of the calls.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="assay-writer")
        self._slots = BoundedSemaphore(queue_size)
        self._error: BaseException | None = None
        self._raised = False
        self._keep: KeepPicture | None = None

    @property
    def drops_all(self) -> bool:
        """Whether it writes nothing, so that no function it is given is ever called."""
        return self._sink is None

    def scalars(self, values: Mapping[str, float] | Callable[[], Mapping[str, float]], step: int) -> None:
        """Write one number per tag; NaN and infinities are written as they are. Trackers get them too.

        Args:
            values: the numbers, or a function that returns them, called in the thread.
            step: the step of the values.
        """
        self.submit(lambda sink: _add_scalars(sink, values() if callable(values) else values, step))

    def scalars_later(self, names: list[str], values: Tensor, step: int) -> None:
        """Write numbers that are still on the device. Trackers get them too.

        Args:
            names: one tag per value.
            values: [len(names)], on any device; copied without blocking and read by the thread.
            step: the step of the values.
        """
        # The copy starts here, so that later changes of the tensor do not reach the event file.
        copy = HostCopy(values)
        self.submit(lambda sink: _add_scalars(sink, dict(zip(names, copy.read().tolist(), strict=True)), step))

    def image(self, tag: str, draw: Callable[[], np.ndarray], step: int, *, once: bool = False) -> None:
        """Write one picture. Trackers get it too.

        Args:
            tag: its tag.
            draw: called in the thread; returns [H, W, 3], uint8, RGB.
            step: the step of the picture.
            once: whether the run has no other picture of this tag, so that ``OverheadBudget`` never leaves it out.
        """
        self.submit(lambda sink: add_picture(sink, tag, draw(), step))

    def text(self, tag: str, markdown: str | Callable[[], str], step: int) -> None:
        """Write a text, which TensorBoard renders as Markdown. Trackers get it too.

        Args:
            tag: its tag; TensorBoard adds ``/text_summary``.
            markdown: the text, or a function that returns it, called in the thread. Bytes that are not UTF-8 are
                escaped.
            step: the step of the text.
        """
        self.submit(lambda sink: sink.add_text(tag, printable(markdown() if callable(markdown) else markdown), step))

    def histograms(self, make: Callable[[], Mapping[str, Histogram]], step: int) -> None:
        """Write distributions; ``make`` is called in the thread and returns one per tag. Trackers do not get them."""
        self.submit(lambda sink: _add_histograms(sink, make(), step))

    def pr_curves(self, make: Callable[[], Mapping[str, np.ndarray]], step: int) -> None:
        """Write curves of precision and recall. Trackers do not get them.

        Args:
            make: called in the thread; returns [6, T] per tag, at T thresholds, which TensorBoard shows as equidistant
                from 0 to 1: the numbers of true positives, false positives, true negatives and false negatives, then
                precision and recall, 0 to 1.
            step: the step of the curves.
        """
        self.submit(lambda sink: _add_pr_curves(sink, make(), step))

    def embedding(self, name: str, make: Callable[[], Embedding]) -> None:
        """Write a cloud of samples for the projector, as files beside the event file. Trackers do not get it.

        Args:
            name: as the projector lists it; it replaces one of the same name. The projector knows no steps.
            make: called in the thread; returns vectors, rows of text and thumbnails.
        """
        self.submit(lambda sink: write_embedding(event_folder(sink), name, make()))

    def summary(self, summary: Summary, step: int | None = None) -> None:
        """Write a summary in TensorBoard's own format, for plugins such as HPARAMS. Trackers do not get it."""
        self.submit(lambda sink: add_summary(sink, summary, step))

    def call(self, work: Callable[[], Any]) -> None:
        """Call a function in the thread after everything queued before it; dropped like everything else."""
        self.submit(lambda _: work())

    def keep_pictures(self, keep: KeepPicture | None) -> None:
        """Have every picture from now on handed also to a function.

        Args:
            keep: called in the thread with the tag and the picture as PNG; None: as it was before.
        """
        self._keep = keep

    def warn(self, message: str) -> None:
        """Log a warning (logger ``assay``), after what was queued before it.

        It goes through the writer because a writer drops what does not belong to this rank: a diagnostic that runs on
        every rank warns once per run, and need not know which rank it is on.
        """
        self.submit(lambda _: _log.warning("%s", message))

    def inform(self, message: str) -> None:
        """Log what is worth knowing and no fault, as ``warn`` logs a warning."""
        self.submit(lambda _: _log.info("%s", message))

    def submit(self, work: Callable[[Sink], Any]) -> None:
        """Queue work on the sink: the one way in, which all methods above take; for writers that wrap another one."""
        # First, so that an error of the thread ends the loop at its next call and not at the end of the run.
        self._raise_error()
        if self._sink is None:
            return
        # Bounded, because what waits holds arrays and tensors in memory.
        self._slots.acquire()
        self._thread.submit(self._run, work)

    def flush(self) -> None:
        """Write everything queued so far to the event file, without waiting for it."""
        self.submit(lambda sink: sink.flush())

    def drain(self) -> None:
        """Wait until everything queued is in the event file; raise the error of the thread, if there is one."""
        if self._sink is not None:
            # Without a slot of the queue: the loop waits for this piece anyhow.
            self._thread.submit(self._run, lambda sink: sink.flush(), release=False).result()
        self._raise_error()

    def end_epoch(self) -> None:
        """Deliver what others than the event file must have before the next epoch; here there is nothing."""

    def close(self) -> None:
        """Drain and close the event file; later calls are dropped."""
        try:
            self.drain()
        finally:
            self._thread.shutdown()  # before the file is closed, which the thread may still write to
            if self._sink is not None:
                # Also after an error, so that the file is not left open.
                self._sink.close()
                self._sink = None

    def _run(self, work: Callable[[Sink], Any], release: bool = True) -> None:
        try:
            if self._error is None and self._sink is not None:
                work(self._sink if self._keep is None else KeptPictures(self._sink, self._keep))
        except OSError as error:
            if error.filename is None:  # a failed write does not know its file
                error.filename = getattr(self._sink, "log_dir", None) or getattr(self._sink, "logdir", None)
            self._error = error
        except BaseException as error:  # it belongs to the loop's thread, which raises it: see _raise_error
            self._error = error
        finally:
            if release:
                self._slots.release()

    def _raise_error(self) -> None:
        # Once: whoever handles the error drains and closes the writer, and must get to the end.
        if self._error is not None and not self._raised:
            self._raised = True
            raise self._error


class ForwardingWriter(Writer):
    """Base of the writers that wrap another one: it has no thread of its own and hands everything on.

    Args:
        writer: does the work.
    """

    def __init__(self, writer: Writer):
        self.writer = writer

    def wrap(self, work: Callable[[Sink], Any]) -> Callable[[Sink], Any]:
        """Return what the thread does for a piece of work; called in the loop."""
        return work

    def submit(self, work: Callable[[Sink], Any]) -> None:
        """Queue the wrapped work."""
        self.writer.submit(self.wrap(work))

    @property
    def drops_all(self) -> bool:
        """Whether the writer writes nothing."""
        return self.writer.drops_all

    def keep_pictures(self, keep: KeepPicture | None) -> None:
        """Have every picture from now on handed also to a function."""
        self.writer.keep_pictures(keep)

    def drain(self) -> None:
        """Wait until everything queued is in the event file; raise the error of the thread, if there is one."""
        self.writer.drain()

    def end_epoch(self) -> None:
        """Deliver what others than the event file must have before the next epoch."""
        self.writer.end_epoch()

    def close(self) -> None:
        """Drain and close the event file."""
        self.writer.close()


def _add_scalars(sink: Sink, values: Mapping[str, float], step: int) -> None:
    for tag, value in values.items():
        sink.add_scalar(tag, value, step)


def _add_histograms(sink: Sink, histograms: Mapping[str, Histogram], step: int) -> None:
    for tag, histogram in histograms.items():
        sink.add_histogram_raw(
            tag,
            min=histogram.low,
            max=histogram.high,
            num=int(histogram.counts.sum()),
            sum=histogram.total,
            sum_squares=histogram.total_of_squares,
            bucket_limits=histogram.limits.tolist(),
            bucket_counts=histogram.counts.tolist(),
            global_step=step,
        )


def _add_pr_curves(sink: Sink, curves: Mapping[str, np.ndarray], step: int) -> None:
    for tag, values in curves.items():
        # Both kinds of SummaryWriter would assume 127 thresholds, however many there are.
        sink.add_pr_curve_raw(tag, *values, global_step=step, num_thresholds=values.shape[1])
