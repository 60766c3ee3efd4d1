"""Which processes are at work in a study: each holds a lock that the kernel releases when it ends."""

import os
import platform
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.callbacks.errors import UsageError

from ...saving.run_lock import locked

_WORKERS = "workers"


@contextmanager
def at_work(study: Path) -> Iterator[str]:
    """Be at work in a study's folder, under a name that no other process has."""
    # The random part: containers of one image have the same names and numbers.
    name = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder = study / _WORKERS / name
    folder.mkdir(parents=True)
    try:
        with locked(folder):
            yield name
    finally:
        remove(study, name)


def is_at_work(study: Path, name: str) -> bool:
    """Whether the process of that name still runs, on this machine or another one that shares the folder."""
    folder = study / _WORKERS / name
    if not folder.is_dir():
        return False
    try:
        with locked(folder):
            return False
    except UsageError:
        return True


def remove(study: Path, name: str) -> None:
    """Remove what a process that has ended left behind."""
    shutil.rmtree(study / _WORKERS / name, ignore_errors=True)
