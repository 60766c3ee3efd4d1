"""Finding the TensorBoard writer of any Catalyst runner."""

from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from catalyst import dl

from .errors import UsageError, listing
from .writer import Writer


@runtime_checkable
class HasWriters(Protocol):
    """A Catalyst logger that hands out writers itself, like the one of ``assay.runner``."""

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
        loader_key: the loader whose event folder is wanted.
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
        writers[loader_key] = Writer(_sink(logger, loader_key))
    return writers[loader_key]


def _sink(logger: dl.TensorboardLogger, loader_key: str) -> Any:
    return logger.loggers[loader_key]
