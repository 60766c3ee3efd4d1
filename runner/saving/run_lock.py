"""A lock that keeps a second process out of a run folder."""

import contextlib
import errno
import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from assay.callbacks.errors import UsageError
from assay.callbacks.support.atomic_files import naming

LOCK = ".lock"
_log = logging.getLogger("assay")

# Not by the package filelock: its locks (flock) are inherited by forked processes, and the workers of a loader, which
# outlive a killed run for some seconds, would keep the folder locked. Those of lockf belong to one process.


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process; of several ranks the first one holds it.

    A file in the folder names the process and its host. The kernel releases the lock when the process ends, even if it
    is killed, so a file that was left behind is taken over. Where the file system has no locks, a warning says so.

    Raises:
        UsageError: another process holds the folder.
    """
    path = folder / LOCK
    file = _open_locked(folder, path)
    try:
        with naming(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}")
            file.flush()
        yield
    finally:
        # In this order: once it is released, the file may be that of the next process.
        path.unlink(missing_ok=True)
        file.close()


def _open_locked(folder: Path, path: Path) -> IO[str]:
    while True:
        file = open(path, "a+")  # noqa: SIM115 - it stays open
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                holder = file.read() or "another process"
                file.close()
                raise UsageError(f"{folder} is in use by {holder}: wait until it has ended, or end it.") from error
            # Some network file systems have no locks: the run goes on without.
            _log.warning("%s cannot be locked (%s): start no second process that trains in it.", folder, error.strerror)
            return file
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        # The process before removed the file after it was opened here, so the lock is on a file without a name.
        file.close()
