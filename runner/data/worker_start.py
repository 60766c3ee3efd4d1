"""Pass data sets to loader workers that are started by ``spawn`` or ``forkserver``."""

import pickle
import sys
import threading
from collections.abc import Mapping
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.data import Dataset

from assay.callbacks.errors import UsageError

from ..processes.one_line_error import OneLineError
from .experiment_files import import_files, imported_files


class WorkerStartError(OneLineError):
    """A loader's worker could not unpack its data set."""


def pack(parts: Any) -> tuple[dict[str, Path], bytes]:
    """Pickle parts for ``unpack``, which runs in a process that has not imported the experiment.

    Raises:
        UsageError: a part cannot be pickled.
    """
    try:
        return imported_files(), bytes(ForkingPickler.dumps(parts))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            "workers that are not forked receive the loader's data set and functions by pickle, and that fails "
            f"({reason}): define them at the top of a file, or leave multiprocessing_context out."
        ) from error


def unpack(files: Mapping[str, Path], packed: bytes) -> Any:
    """Return the parts, or the error on unpacking them."""
    try:
        import_files(files)  # first: pickle looks classes up in their modules, by name
        return pickle.loads(packed)
    except Exception as error:  # noqa: BLE001  # an import runs the user's code
        return error  # NotStarted raises it at the first batch, where the main process hears of it


def silence_lost_reader() -> None:
    """Keep a worker from printing a traceback when the run ends while a batch is passed on."""
    # The thread that passes it on would report its broken connection beside the line that says why the run ended.
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main or not isinstance(error, ConnectionError | EOFError):
            before(kind, error, trace)

    sys.excepthook = hook


class NotStarted(Dataset[Any]):
    """Takes the place of a data set that could not be unpacked, and raises the reason at the first batch.

    Args:
        error: the reason.
    """

    def __init__(self, error: Exception):
        self.error = error

    def __getitems__(self, batch: Any) -> Any:
        """Raise WorkerStartError."""
        reason = " ".join(f"{type(self.error).__name__}: {self.error}".split())
        raise WorkerStartError(f"a loader's worker could not start: {reason}") from self.error
