"""Find the writer of a loader's event folder, for any Catalyst runner and any of its loggers."""

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from catalyst import dl

from ..errors import UsageError, listing
from ..support.distributed import from_main_rank
from ..support.runner_view import is_evaluation
from .tracked_writer import NoEventFile, TrackedWriter
from .trackers import Outbox, trackers_of
from .writer import Writer


@runtime_checkable
class HasWriters(Protocol):
    """A Catalyst logger that hands out writers and logs hyper-parameters, like the one of ``assay.runner``."""

    def get_writer(self, loader_key: str) -> Writer:
        """Return the writer of the loader's event folder."""
        ...


@runtime_checkable
class HasRunWriter(HasWriters, Protocol):
    """A logger that decides by itself where to write what belongs to no loader."""

    def get_run_writer(self) -> Writer:
        """Return the writer of the event folder for what belongs to no loader."""
        ...


_log = logging.getLogger("assay")

# Trackers show what belongs to no loader under this name.
_RUN = "run"

# All callbacks share one writer per loader, and with it one thread, for as long as the logger lives.
_writers: WeakKeyDictionary[Any, dict[str, Writer]] = WeakKeyDictionary()


def find_writer(runner: dl.IRunner, loader_key: str | None, asked_by: str, *, event_files: bool = False) -> Writer:
    """Return the writer that belongs to a loader of the runner.

    It works with any logger that has ``get_writer`` and with the stock ``dl.TensorboardLogger``. Loggers of other kinds
    that take pictures get these too, as well as scalars and texts (see ``assay.callbacks.tensorboard.trackers``). On
    all processes of a distributed run but the main one the writer drops everything, so the caller need not know its
    rank.

    Args:
        runner: any Catalyst runner whose ``on_experiment_start`` has run.
        loader_key: the loader whose event folder is wanted. None: what belongs to no loader, and goes to the folder of
            the first train loader, or else of the first loader.
        asked_by: the name of the caller, which begins the error.
        event_files: whether only a TensorBoard logger will do.

    Raises:
        UsageError: the runner has no logger to write to. ``evaluate_loader``, which takes no logger, gets a warning
            instead, and a writer that drops everything.
    """
    if not runner.engine.is_main_process:
        return Writer(None)
    writer = _event_writer(runner, loader_key)
    trackers = trackers_of(list(runner.loggers.values()))
    if writer is None and not trackers and is_evaluation(runner):
        _log.warning(
            "%s writes nothing: evaluate_loader gives the run no logger; for what it writes call train() with "
            "loaders={'valid': loader} and a logger.", asked_by,
        )  # fmt: skip
        return Writer(None)
    if writer is None and (event_files or not trackers):
        raise UsageError(
            f"{asked_by} writes to TensorBoard, and the runner has no TensorBoard logger; it has "
            f"{listing(runner.loggers)}. Pass train() a logdir=... or "
            "loggers={'tensorboard': dl.TensorboardLogger(...)}."
        )
    name = _RUN if loader_key is None else loader_key
    writer = writer or _shared_writer(trackers[0].logger, name, NoEventFile)
    return TrackedWriter(writer, Outbox(trackers, runner, name)) if trackers else writer


def has_writer(runner: dl.IRunner) -> bool:
    """Return whether ``find_writer`` would return a writer that writes texts; on other ranks it is the main one's."""
    loggers = list(runner.loggers.values())
    return any(isinstance(it, HasWriters | dl.TensorboardLogger) for it in loggers) or bool(trackers_of(loggers))


def writes_nothing(runner: dl.IRunner) -> bool:
    """Return whether the run is an ``evaluate_loader`` without a logger of the runner's own. A collective."""
    if not is_evaluation(runner):
        return False
    loggers = list(runner.loggers.values())
    known = any(isinstance(logger, HasWriters | dl.TensorboardLogger) for logger in loggers)
    return not from_main_rank(known or bool(trackers_of(loggers)))


def first_trained(loader_keys: Iterable[str]) -> str:
    """Return the loader whose event folder holds what belongs to no loader."""
    keys = list(loader_keys)
    return next((key for key in keys if key.startswith("train")), keys[0])


def _event_writer(runner: dl.IRunner, loader_key: str | None) -> Writer | None:
    for logger in runner.loggers.values():
        if loader_key is None:
            if isinstance(logger, HasRunWriter):
                return logger.get_run_writer()
            loader_key = first_trained(runner.loaders)
        if isinstance(logger, HasWriters):
            return logger.get_writer(loader_key)
        if isinstance(logger, dl.TensorboardLogger):
            return _shared_writer(logger, loader_key, partial(_stock_sink, logger, loader_key))
    return None


def _shared_writer(logger: Any, loader_key: str, make_sink: Callable[[], Any]) -> Writer:
    writers = _writers.setdefault(logger, {})
    if loader_key not in writers:
        writers[loader_key] = Writer(make_sink())
    return writers[loader_key]


def _stock_sink(logger: dl.TensorboardLogger, loader_key: str) -> "_StockSink":
    # The stock logger opens an event file when it first logs, which may be after the first picture.
    logger._check_loader_key(loader_key=loader_key)
    return _StockSink(logger.loggers[loader_key])


class _StockSink:
    """A tensorboardX ``SummaryWriter`` whose ``flush`` waits until everything is in the file, and which raises errors.

    Raises:
        OSError: an event could not be written; raised once, by the next call, ``flush`` or ``close``, of the stock
            logger's own too. What is written after it is dropped.
    """

    def __init__(self, writer: Any):
        self._writer = writer
        files = writer.all_writers or {}
        self._files = [_FailingFile(file.event_writer) for file in files.values()]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)

    def add_summary(self, summary: Any, step: int | None = None) -> None:
        """Write a summary in TensorBoard's format."""
        # tensorboardX accepts only its own copy of the format.
        from tensorboardX.proto.summary_pb2 import Summary

        self._writer._get_file_writer().add_summary(Summary.FromString(summary.SerializeToString()), step)

    def flush(self) -> None:
        """Wait until every event is in the file."""
        from tensorboardX.proto.event_pb2 import Event

        if self._writer.all_writers is None:  # closed
            return
        for writer in self._writer.all_writers.values():
            events = writer.event_writer
            # tensorboardX flushes the file but not the queue before it, so a run that fails would lose its last
            # pictures. Its worker writes one event before it takes the next: when it has taken this empty one, all
            # events before it are written.
            events.add_event(Event(wall_time=time.time()))
            while events._event_queue.qsize() and events._worker.is_alive():
                time.sleep(0.001)
        self._writer.flush()
        self._raise_errors()

    def close(self) -> None:
        self._writer.close()
        self._raise_errors()

    def _raise_errors(self) -> None:
        for file in self._files:
            file.raise_error()


class _FailingFile:
    """An event file of tensorboardX that keeps its error for the next call."""

    # Otherwise the error ends tensorboardX's worker, and the next write waits forever for room in its queue.

    def __init__(self, events: Any):
        self._file, self._folder = events._ev_writer, events.get_logdir()
        self._add_event = events.add_event
        self._error: OSError | None = None
        self._has_failed = False
        events._ev_writer = events._worker._record_writer = self
        events.add_event = self.add_event

    def add_event(self, event: Any) -> None:
        self.raise_error()
        self._add_event(event)

    def raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def write_event(self, event: Any) -> None:
        self._keep_error_of(self._file.write_event, event)

    def flush(self) -> None:
        self._keep_error_of(self._file.flush)

    def close(self) -> None:
        self._keep_error_of(self._file.flush)
        # The file still holds what it could not write, and fails on it again.
        with suppress(OSError):
            self._file.close()

    def _keep_error_of(self, work: Callable[..., Any], *arguments: Any) -> None:
        if self._has_failed:
            return
        try:
            work(*arguments)
        except OSError as error:
            error.filename = error.filename or self._folder
            self._error, self._has_failed = error, True
