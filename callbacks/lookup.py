"""Finding the TensorBoard writer of any Catalyst runner."""

import time
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from catalyst import dl

from .errors import UsageError, listing
from .writer import Writer


@runtime_checkable
class HasWriters(Protocol):
    """A Catalyst logger that hands out writers and logs hyper-parameters, like the one of ``assay.runner``."""

    def get_writer(self, loader_key: str) -> Writer:
        """Return the writer of the loader's event folder."""
        ...


# One writer an event folder, however many callbacks use it, for as long as the stock logger lives.
_stock_writers: WeakKeyDictionary[dl.TensorboardLogger, dict[str, Writer]] = WeakKeyDictionary()


def find_writer(runner: dl.IRunner, loader_key: str, asked_by: str) -> Writer:
    """Return the writer that belongs to a loader of the runner.

    Works with any logger that has ``get_writer`` and with the stock ``dl.TensorboardLogger``. On a process that
    does not write (every one but the main process of a distributed run), the writer drops what it is given, so
    the caller need not know its rank.

    Args:
        runner: any Catalyst runner whose ``on_experiment_start`` has run.
        loader_key: the loader whose event folder is wanted, or ``run`` for what belongs to no loader.
        asked_by: who asks; it opens the error.

    Raises:
        UsageError: the runner has no TensorBoard logger.
    """
    if not runner.engine.is_main_process:
        return Writer(None)
    for logger in runner.loggers.values():
        if isinstance(logger, HasWriters):
            return logger.get_writer(loader_key)
        if isinstance(logger, dl.TensorboardLogger):
            return _stock_writer(logger, loader_key)
    raise UsageError(
        f"{asked_by} writes to TensorBoard, and the runner has no TensorBoard logger; it has "
        f"{listing(runner.loggers)}. Pass train() a logdir=... or loggers={{'tensorboard': dl.TensorboardLogger(...)}}."
    )


def _stock_writer(logger: dl.TensorboardLogger, loader_key: str) -> Writer:
    writers = _stock_writers.setdefault(logger, {})
    if loader_key not in writers:
        # The stock logger opens an event file when it first logs, which may be after the first picture.
        logger._check_loader_key(loader_key=loader_key)
        writers[loader_key] = Writer(_StockSink(logger.loggers[loader_key]))
    return writers[loader_key]


class _StockSink:
    """A tensorboardX ``SummaryWriter`` whose ``flush`` waits until all is in the file.

    Its own flushes the file and leaves behind what is still in the queue before it, so that a run that fails
    would lose its last pictures. The queue's worker writes one event before it takes the next: once it has taken
    an empty event, those before it are written.
    """

    def __init__(self, writer: Any):
        self._writer = writer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def add_summary(self, summary: Any, step: int | None = None) -> None:
        """Write a summary of TensorBoard's own; tensorboardX takes no other than of its own copy of the format."""
        from tensorboardX.proto.summary_pb2 import Summary

        self._writer._get_file_writer().add_summary(Summary.FromString(summary.SerializeToString()), step)

    def flush(self) -> None:
        from tensorboardX.proto.event_pb2 import Event

        if self._writer.all_writers is None:  # closed
            return
        for writer in self._writer.all_writers.values():
            events = writer.event_writer
            events.add_event(Event(wall_time=time.time()))
            while events._event_queue.qsize() and events._worker.is_alive():
                time.sleep(0.001)
        self._writer.flush()
