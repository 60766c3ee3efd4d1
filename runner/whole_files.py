"""Files that are written whole or not at all."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from assay.callbacks.replacing import replacing


def save_whole(path: Path, write: Callable[[Any], Any]) -> None:
    """Write a file under a temporary name and rename it, so that ``path`` is never half a file.

    Raises:
        OSError: it cannot be written; ``filename`` is ``path``.
    """
    try:
        with replacing(path) as temporary, open(temporary, "wb", buffering=0) as file:
            guarded = _Guarded(file)
            write(guarded)
            guarded.finish()
    except OSError as error:
        error.filename = str(path)
        raise


def save_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, as ``save_whole`` does."""
    save_whole(path, lambda file: file.write(text.encode()))


class _Guarded:
    """A file that takes, and drops, what comes after a write that failed, and raises the error in the end.

    ``torch.save`` does not stand an error: it hides it behind one of its own, or ends the process.
    """

    def __init__(self, file: Any):
        self._file = file
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
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
        os.fsync(self._file.fileno())


def link_whole(source: Path, path: Path) -> None:
    """Make ``path`` the same file as ``source``; a copy where the file system has no hard links."""
    with replacing(path) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            temporary.write_bytes(source.read_bytes())


def digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
