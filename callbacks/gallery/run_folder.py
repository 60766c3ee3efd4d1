"""Opens files of a run, and none outside it."""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import UsageError

Signature = tuple[int, int, int, int]  # device, file, time of the last change and size: whether it is the same file


class NotThereError(UsageError):
    """What was asked for is not there."""


class RunFolder:
    """The files of a run, which may be written, replaced and removed at any time.

    A link that leads out of the folder is as if it were not there, and so is what is no plain file.

    Args:
        path: of the run; it may be a link itself.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(os.path.realpath(path))

    def folders(self, *parts: str) -> list[str]:
        """Return the names of the folders in a folder of the run, sorted; none where it is not there."""
        return self._names(*parts, is_wanted=stat.S_ISDIR)

    def files(self, *parts: str) -> list[str]:
        """Return the names of the files in a folder of the run, sorted; none where it is not there."""
        return self._names(*parts, is_wanted=stat.S_ISREG)

    def signature(self, *parts: str) -> Signature | None:
        """Return what tells whether a file is still the same; None where it is not there."""
        path = self._inside(*parts, is_wanted=stat.S_ISREG)
        try:
            return None if path is None else _signature(os.stat(path))
        except OSError:
            return None

    @contextmanager
    def open(self, *parts: str) -> Iterator[IO[bytes]]:
        """Open a file, which stays the same one while it is open, also where the run replaces it.

        Raises:
            NotThereError: there is no such file within the run.
        """
        path = self._inside(*parts, is_wanted=stat.S_ISREG)
        missing = NotThereError(f"the run has no file {'/'.join(parts)!r}.")
        if path is None:
            raise missing
        try:
            # Without following a link that has just replaced the file, and without waiting for a pipe.
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise missing from error
        with open(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise missing
            yield file

    def stamp(self, *parts: str) -> Signature | None:
        """Return what changes when files of a folder are added, replaced or removed; None: it is not there."""
        folder = self._inside(*parts, is_wanted=stat.S_ISDIR)
        try:
            return None if folder is None else _signature(os.stat(folder))
        except OSError:
            return None

    def _names(self, *parts: str, is_wanted: Callable[[int], bool]) -> list[str]:
        """Return the names of what is in a folder of the run, of a kind, sorted."""
        folder = self._inside(*parts, is_wanted=stat.S_ISDIR)
        if folder is None:
            return []
        try:
            with os.scandir(folder) as entries:
                return sorted(entry.name for entry in entries if self._is_kept(entry, parts, is_wanted))
        except OSError:
            return []

    def _is_kept(self, entry: "os.DirEntry[str]", parts: tuple[str, ...], is_wanted: Callable[[int], bool]) -> bool:
        # Only a link may lead out of the folder, and to follow the path of each file takes a hundred times as long.
        if entry.is_symlink():
            return self._inside(*parts, entry.name, is_wanted=is_wanted) is not None
        is_folder = is_wanted(stat.S_IFDIR)
        return entry.is_dir(follow_symlinks=False) if is_folder else entry.is_file(follow_symlinks=False)

    def _inside(self, *parts: str, is_wanted: Callable[[int], bool]) -> Path | None:
        """Return the real path of what is within the run and of a kind; None: there is no such thing."""
        try:
            path = Path(os.path.realpath(self.path.joinpath(*parts), strict=True))
            is_there = path.is_relative_to(self.path) and is_wanted(os.stat(path).st_mode)
        except (OSError, ValueError):  # ValueError: a name with a NUL
            return None
        return path if is_there else None


def _signature(found: os.stat_result) -> Signature:
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
