"""What a loader's worker is handed where it does not inherit the process, by ``spawn`` and ``forkserver``."""

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

from .catalog import import_files, imported_files


class WorkerStartError(RuntimeError):
    """A loader's worker that could not make what it is to read from, in one line.

    Args:
        message: the line. Of the text that torch makes of an error in a loader worker, the last line is taken.
    """

    def __init__(self, message: str):
        *traceback, own = message.strip().splitlines()
        super().__init__(own.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))
        if traceback:
            self.add_note(message)


def pack(parts: Any) -> tuple[dict[str, Path], bytes]:
    """Return what ``unpack`` makes the parts of, in a process that has imported no experiment.

    Raises:
        UsageError: a part cannot be pickled.
    """
    try:
        return imported_files(), bytes(ForkingPickler.dumps(parts))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UsageError(
            "workers that are not forked are handed the loader's data set and functions by pickle, and that fails "
            f"({reason}): define them at the top of a file, or leave multiprocessing_context out."
        ) from error


def unpack(files: Mapping[str, Path], packed: bytes) -> Any:
    """Return the parts; where that fails, the error, for the main process to hear of when it asks for a batch."""
    try:
        import_files(files)  # first: classes are looked for by the name of their module
        return pickle.loads(packed)
    except Exception as error:  # noqa: BLE001  # an import runs whatever the user wrote
        return error


def keep_quiet_of_lost_reader() -> None:
    """Have this worker print nothing where the run ends while it is being handed a batch.

    The thread that hands it over would print how its connection broke, beside the one line that says why the run ended.
    """
    before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        if in_main or not isinstance(error, ConnectionError | EOFError):
            before(kind, error, trace)

    sys.excepthook = hook


class NotStarted(Dataset[Any]):
    """Stands where a data set could not be made, and says so when it is asked for a batch.

    Args:
        error: why.
    """

    def __init__(self, error: Exception):
        self.error = error

    def __getitems__(self, batch: Any) -> Any:
        """Raise WorkerStartError."""
        reason = " ".join(f"{type(self.error).__name__}: {self.error}".split())
        raise WorkerStartError(f"a loader's worker could not start: {reason}") from self.error
