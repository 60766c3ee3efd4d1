"""Generate small data sets in the layout and formats of real ones, for users without the real data."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from assay.callbacks.errors import UsageError


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Generate a data set in a folder, completely or not at all, unless the folder exists.

    Args:
        folder: where the data set will be.
        make: fills the empty folder that it is given.

    Returns:
        The folder.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive_lock(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():  # another process may have made it while this one waited for the lock
            print(f"making a small data set in {folder}", flush=True)
            _make_whole(folder, make)
    return folder


def make_new(folder: Path, make: Callable[[Path], None]) -> Path:
    """Generate a data set that the user asked for.

    Raises:
        UsageError: the folder exists, and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} exists already: remove it, or name another with --data-dir.")
    if folder.exists():
        folder.rmdir()
    return make_once(folder, make)


def _make_whole(folder: Path, make: Callable[[Path], None]) -> None:
    # Beside the folder, so that the rename at the end stays within one file system and is atomic.
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)  # mkdtemp lets only the owner read
        make(temporary)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _exclusive_lock(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
