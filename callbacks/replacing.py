"""A file that takes the place of another when it is whole."""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

_LONGEST_NAME = 255  # bytes


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a temporary file beside ``path`` that takes its place, or is gone after an error.

    Raises:
        OSError: one of the block, which names ``path``.
    """
    temporary = path.with_name(_temporary(path.name))
    try:
        with naming(path, temporary):
            yield temporary
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # the folder is gone: that error is the one to tell
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path, *others: Path) -> Iterator[None]:
    """Have an OSError of the system name the file, where it names none, as that of a write, or another of its names."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or Path(os.fsdecode(error.filename)) in others):
            error.filename, error.filename2 = str(path), None
        raise


def _temporary(name: str) -> str:
    """Return another name, one by a checksum where it would be too long or is not UTF-8, which GDAL refuses."""
    temporary = f".{name}.{os.getpid()}.tmp"
    is_plain = os.fsencode(name).decode(errors="replace") == name
    if is_plain and len(os.fsencode(temporary)) <= _LONGEST_NAME:
        return temporary
    return f".{zlib.crc32(os.fsencode(name)):08x}.{os.getpid()}.tmp"


def half_written(folder: Path) -> Iterator[Path]:
    """Return the temporary files of ``replacing`` that a process left in a folder when it was killed."""
    return folder.glob(".*.tmp")
