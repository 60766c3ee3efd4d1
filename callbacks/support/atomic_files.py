"""Files that are written whole or not at all: each is written under a temporary name and then renamed."""

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

_LONGEST_NAME = 255  # bytes, on every common file system


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; the file of that name replaces ``path``, or is removed after an error.

    Raises:
        OSError: one of the block; it names ``path``.
    """
    # Beside it, because a rename is atomic only within one file system.
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with naming(path, temporary):
            yield temporary
            os.replace(temporary, path)
    finally:
        # Where the folder itself is gone, the error of the block is the one to raise.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: Path, *others: Path) -> Iterator[None]:
    """Make an OSError of the system name ``path``, where it names no file, as one of a write, or one of ``others``."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and (error.filename is None or Path(os.fsdecode(error.filename)) in others):
            error.filename, error.filename2 = str(path), None
        raise


def half_written(folder: Path) -> Iterator[Path]:
    """Return the temporary files of ``replacing`` that a killed process has left in a folder."""
    return folder.glob(".*.tmp")


def save_whole(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file whole or not at all.

    Args:
        path: of the file; until it is whole, the file of this name stays what it was.
        write: called with an open binary file.

    Raises:
        OSError: it cannot be written; ``filename`` is ``path``.
    """
    try:
        # Unbuffered, so that an error of the disk comes at the write and not at the close.
        with replacing(path) as temporary, open(temporary, "wb", buffering=0) as file:
            guarded = _GuardedFile(file)
            write(guarded)
            guarded.finish()
    except OSError as error:
        error.filename = str(path)
        raise


def save_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, as ``save_whole`` does."""
    save_whole(path, lambda file: file.write(text.encode()))


def link_whole(source: Path, path: Path) -> None:
    """Make ``path`` a hard link to ``source``, or a copy where the file system has no hard links."""
    with replacing(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())


def digest(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _GuardedFile:
    """A file that drops everything after a failed write, and raises the error of that write at the end."""

    # torch.save does not survive an error of its file: it replaces it by one of its own, or ends the process.

    def __init__(self, file: Any):
        self._file = file
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            # An unbuffered file may take a part of the data only.
            while self._error is None and len(rest):
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def flush(self) -> None:
        """Do nothing: the file has no buffer."""

    def finish(self) -> None:
        if self._error is not None:
            raise self._error
        # Before the rename: after a power failure the new name must not lead to data that never reached the disk.
        os.fsync(self._file.fileno())


def _temporary_name(name: str) -> str:
    temporary = f".{name}.{os.getpid()}.tmp"
    # GDAL, which writes TIFF files, refuses names that are not UTF-8.
    is_utf8 = os.fsencode(name).decode(errors="replace") == name
    if is_utf8 and len(os.fsencode(temporary)) <= _LONGEST_NAME:
        return temporary
    return f".{zlib.crc32(os.fsencode(name)):08x}.{os.getpid()}.tmp"
