"""Record the sizes of log files at a checkpoint, and truncate the files to them on resume."""

import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from assay.callbacks.support.atomic_files import naming

_log = logging.getLogger("assay")


def file_sizes(folder: Path, paths: Iterable[Path]) -> dict[str, int]:
    """Flush existing files to the disk and return the size of each, by its path within a folder."""
    return {path.relative_to(folder).as_posix(): _synced_size(path) for path in paths if path.is_file()}


def truncate_to(folder: Path, paths: Iterable[Path], sizes: Mapping[str, int]) -> None:
    """Truncate files to the given sizes, and remove files that are not among them.

    Args:
        folder: where the files are.
        paths: all files that may have grown or been created since.
        sizes: what ``file_sizes`` returned. If none of its files exists, the folder is of another run, and nothing is
            changed.
    """
    # TensorBoard's purge_step does not suffice: other readers take everything that is in the files.
    if sizes and not any((folder / name).is_file() for name in sizes):
        return
    if gone := [name for name in sizes if not (folder / name).is_file()]:
        _log.warning("%s is missing, with everything written to it before the checkpoint.", folder / gone[0])
    for path in list(paths):
        if (size := sizes.get(path.relative_to(folder).as_posix())) is None:
            path.unlink()
        elif path.stat().st_size < size:
            _log.warning(
                "%s lost its last %d bytes since the checkpoint: what it showed last until then is missing; the run "
                "goes on all the same.", path, size - path.stat().st_size,
            )  # fmt: skip
        else:
            os.truncate(path, size)


def _synced_size(path: Path) -> int:
    with naming(path), open(path, "rb") as file:
        os.fsync(file.fileno())  # a checkpoint must not name a size that a power failure could take back
        return os.fstat(file.fileno()).st_size
