"""One process at a time in a run folder."""

import contextlib
import errno
import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from assay.callbacks.atomic_files import naming
from assay.callbacks.errors import UsageError

LOCK = ".lock"
_log = logging.getLogger("assay")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder for this process, as a file with its id and host; several ranks hold it by their first.

    The kernel lets go of it when the process ends, however it does, so that a file which was left behind is taken over.
    Loader workers, which outlive a killed process for some seconds, do not inherit it.

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
            _log.warning("%s is not protected from a second process: %s.", folder, error.strerror)
            return file
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # the process before removed it meanwhile
