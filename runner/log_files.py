"""Files that a run appends to: how long they are at a checkpoint, and cutting them back to it on resume."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from assay.callbacks.atomic_files import naming

_log = logging.getLogger("assay")


def file_sizes(folder: Path, paths: Iterable[Path]) -> dict[str, int]:
    """Return the size of each file that there is, by its path within a folder, once it is safely on the disk."""
    return {path.relative_to(folder).as_posix(): _synced_size(path) for path in paths if path.is_file()}


def cut_back(folder: Path, paths: Iterable[Path], sizes: Mapping[str, int]) -> None:
    """Make files as long as they were, and remove those that there were not.

    TensorBoard's ``purge_step`` does not do: every reader takes what is in the files.

    Args:
        folder: where the files are.
        paths: all files that may have grown since, or come since.
        sizes: what ``file_sizes`` returned. Where it has files and none of them is there, the folder holds another run,
            and nothing is touched.
    """
    if sizes and not any((folder / name).is_file() for name in sizes):
        return
    if gone := [name for name in sizes if not (folder / name).is_file()]:
        _log.warning("%s is gone, with what was written to it until the checkpoint.", folder / gone[0])
    for path in list(paths):
        if (size := sizes.get(path.relative_to(folder).as_posix())) is None:
            path.unlink()
        elif path.stat().st_size < size:
            _log.warning("%s lost its last %d bytes: it is shorter than it was.", path, size - path.stat().st_size)
        else:
            os.truncate(path, size)


def _synced_size(path: Path) -> int:
    with naming(path), open(path, "rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size
