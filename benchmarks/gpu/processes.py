"""Processes of Python with an end in time, which none of their own children outlives; what they say goes to a file."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..apart import ROOT

_MARK = "BENCHMARKS_GPU_PROCESS"


class Running:
    """A command of Python that has been started.

    Args:
        command: what follows ``python``.
        log: file for what it says.
        **variables: of its environment.
    """

    def __init__(self, command: Sequence[str], log: Path, **variables: str):
        self.log, self.mark = log, uuid.uuid4().hex
        given = {"NO_ALBUMENTATIONS_UPDATE": "1", "OMP_WAIT_POLICY": "passive", "PYTHONUNBUFFERED": "1"}
        environment = {**os.environ, **given, **variables, _MARK: self.mark}
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
            )

    def wait(self, until: float) -> int | None:
        """Return the exit code, or None if the process has not ended at ``until``, of ``time.monotonic``."""
        try:
            return self.process.wait(max(until - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.end()

    def end(self) -> None:
        """End what is left of the process, and what it has started, also in sessions of their own."""
        for number in _marked(f"{_MARK}={self.mark}".encode()):
            os.kill(number, signal.SIGKILL)
        self.process.wait()

    def said(self) -> str:
        """Return what the process and its children have said so far."""
        return self.log.read_text(errors="replace")


def run(command: Sequence[str], log: Path, limit_s: float, **variables: str) -> tuple[int | None, str]:
    """Run a command of Python for so many seconds at most; return its exit code and what it said."""
    running = Running(command, log, **variables)
    code = running.wait(time.monotonic() + limit_s)
    return code, running.said()


def state(code: int | None) -> str:
    """Return in words how a process has ended."""
    if code is None:
        return "timed out"
    return "passed" if code == 0 else "killed" if code < 0 else "failed"


def reason(code: int | None, limit_s: float) -> str:
    """Return in words why it has not ended well."""
    if code is None:
        return f"not done in {limit_s:.0f} s"
    return f"killed by signal {-code}" if code < 0 else f"ended with {code}"


def _marked(mark: bytes) -> Iterator[int]:
    """Yield the processes that have inherited the mark: a child that lost its parent has another one by now."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                yield int(folder.name)
        except OSError:  # of another user, or ended meanwhile
            continue
