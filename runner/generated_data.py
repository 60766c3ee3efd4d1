"""Small data sets made up in the layout and formats of real ones, for who has not got those at hand."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from assay.callbacks.errors import UsageError


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Have a data set made in a folder that is not there yet, whole or not at all; of several processes one makes it.

    Args:
        folder: where it will be.
        make: fills an empty folder that it is given.

    Returns:
        The folder.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():
            print(f"making a small data set in {folder}", flush=True)
            _make_whole(folder, make)
    return folder


def make_new(folder: Path, make: Callable[[Path], None]) -> Path:
    """Do the same on the user's request.

    Raises:
        UsageError: the folder is there already, and holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already: remove it, or name another with --data-dir.")
    if folder.exists():
        folder.rmdir()
    return make_once(folder, make)


def _make_whole(folder: Path, make: Callable[[Path], None]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        make(temporary)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
