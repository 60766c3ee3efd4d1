"""Finds the runs with samples below the folders that TensorBoard looks at."""

import os
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...support.printable import printable
from ..run_folder import RunFolder

SAMPLES, IDS = "samples", "ids.parquet"
_WITHIN_RUNS = {SAMPLES, "checkpoints"}  # which hold no other runs
_WAIT_S = 1.0  # for the first search, before the tab is said to have nothing
_PAUSE_S = 2.0  # between two searches, at least
_SHARE = 0.1  # of the time that searches may take
_ADDRESS = re.compile(r"[a-zA-Z][0-9a-zA-Z.]*://")


def named_folders(logdir: str | None, logdir_spec: str | None) -> dict[str, Path]:
    """Return the folders that TensorBoard was started with, by the names before its runs.

    Args:
        logdir: one folder, without a name.
        logdir_spec: several, as ``name:folder,folder``; one without a name is called as it was given.
    """
    if logdir:
        return {} if _ADDRESS.match(logdir) else {"": Path(logdir).expanduser().absolute()}
    found: dict[str, Path] = {}
    for part in (logdir_spec or "").split(","):
        name, colon, path = part.partition(":")
        if not part or _ADDRESS.match(part):
            continue
        if not colon or part.startswith("/"):
            name, path = part, part
        if not _ADDRESS.match(path):
            found[name] = Path(path).expanduser().absolute()
    return found


class RunSearch:
    """The runs below some folders: those that hold samples, by name.

    Links to folders are followed, as TensorBoard follows them. Folders whose names begin with a dot are left out.

    Args:
        folders: by the names before those of the runs; see ``named_folders``.
    """

    def __init__(self, folders: Mapping[str, Path]):
        self.folders = dict(folders)
        self._found: dict[str, Path] = {}
        self._next = 0.0
        self._lock = threading.Lock()

    def runs(self) -> dict[str, Path]:
        """Return the folders of runs by name, sorted; they were searched for some seconds ago at most."""
        with self._lock:
            if time.monotonic() >= self._next:
                began = time.monotonic()
                self._found = dict(sorted(self._search()))
                now = time.monotonic()
                self._next = now + max(_PAUSE_S, (now - began) / _SHARE)
            return dict(self._found)

    def any(self) -> bool:
        """Return whether there is a run; a long search goes on beside, and the next call knows more."""
        if not self._found:
            thread = threading.Thread(target=self.runs, name="assay samples", daemon=True)
            thread.start()
            thread.join(_WAIT_S)
        return bool(self._found)

    def _search(self) -> Iterator[tuple[str, Path]]:
        for name, top in self.folders.items():
            for path, parts in _folders(top):
                if has_samples(path):
                    yield printable("/".join([*filter(None, [name]), *parts]) or "."), path


def has_samples(run: Path) -> bool:
    """Return whether a folder is a run with samples."""
    folder = RunFolder(run)
    return any(folder.signature(SAMPLES, loader, IDS) for loader in folder.folders(SAMPLES))


def _folders(top: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Yield a folder and all below it, and the names that lead there; each once, also where links lead in circles."""
    seen: set[tuple[int, int]] = set()
    left: list[tuple[str, ...]] = [()]
    while left:
        parts = left.pop()
        path = top.joinpath(*parts)
        try:
            found = os.stat(path)
            with os.scandir(path) as entries:
                names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
        except OSError:
            continue
        if (found.st_dev, found.st_ino) not in seen:
            seen.add((found.st_dev, found.st_ino))
            yield path, parts
            left += [(*parts, name) for name in names if not (name in _WITHIN_RUNS and SAMPLES in names)]
