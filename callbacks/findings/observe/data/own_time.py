"""A clock that stands still while a process waits for a processor."""

import time
from pathlib import Path

# Linux keeps it of each process: nanoseconds on a processor, nanoseconds of waiting for one, turns.
_FILE = Path("/proc/self/schedstat")
_NANOSECONDS = 1e9


class OwnTime:
    """Seconds in which a process ran, slept or waited for a disk, but not those in which others kept it from running.

    A machine that is busy with other work then shows as many samples as a quiet one.

    Args:
        most: seconds of waiting that are left out; beyond, the clock goes on.
    """

    def __init__(self, most: float):
        self.most = most
        self._before = _waited()

    def __call__(self) -> float:
        return time.monotonic() - min(_waited() - self._before, self.most)


def _waited() -> float:
    try:
        return int(_FILE.read_text().split()[1]) / _NANOSECONDS
    except (OSError, IndexError, ValueError):  # a kernel that does not keep it
        return 0.0
