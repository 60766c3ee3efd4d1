"""The time of each phase of a loader's steps, on the clock of the device."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from .measure import Reductions

PHASES = ("data", "forward", "backward", "optimizer", "diagnostics", "other")


class Timer(Protocol):
    """A clock: it gives stamps, and later the time between two of them."""

    def stamp(self) -> Any: ...
    def passed(self, stamp: Any) -> bool: ...
    def wait(self, stamp: Any) -> None: ...
    def elapsed_ms(self, start: Any, end: Any) -> float: ...


class HostTimer:
    """A clock of the host, whose stamps are readings of ``clock``, in seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.stamp = clock

    def passed(self, stamp: float) -> bool:
        return True

    def wait(self, stamp: float) -> None:
        pass

    def elapsed_ms(self, start: float, end: float) -> float:
        return (end - start) * 1000.0


class CudaTimer:
    """A clock of the GPU, whose stamps are events in its queue."""

    # The host runs ahead of the GPU: its clock would measure how long queueing the work takes, and waiting for the GPU
    # at each stamp would slow the loop down.

    def stamp(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def passed(self, stamp: torch.cuda.Event) -> bool:
        return bool(stamp.query())

    def wait(self, stamp: torch.cuda.Event) -> None:
        stamp.synchronize()

    def elapsed_ms(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        return float(start.elapsed_time(end))


class PhaseTimes:
    """Adds up the time of each phase of a loader's steps.

    Each call of ``begin`` ends a phase and begins the next one. A phase that has not ended does not count.

    Args:
        timer: gives the stamps.
    """

    # Ranks run at the same time: their samples add up, over the time of the slowest one.
    reductions: ClassVar[Reductions] = {"ms": "sum", "steps": "sum", "samples": "sum", "elapsed_ms": "max"}

    def __init__(self, timer: Timer):
        self.timer = timer
        self.phase: str | None = None
        self.total_ms = dict.fromkeys(PHASES, 0.0)
        self.steps = 0
        self.samples = 0
        self._start: Any = None
        self._pending: deque[tuple[str, Any, Any]] = deque()

    def begin(self, phase: str) -> None:
        """Add the time from here on to ``phase``, one of ``PHASES``."""
        stamp = self.timer.stamp()
        if self.phase is not None:
            self._pending.append((self.phase, self._start, stamp))
        self.phase, self._start = phase, stamp

    def add_step(self, samples: int) -> None:
        """Count one step of ``samples`` samples."""
        self.steps += 1
        self.samples += samples
        # Stamps that the device has not reached yet stay in the queue: nothing waits for them.
        while self._pending and self.timer.passed(self._pending[0][2]):
            self._add_first()

    def state(self, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Return the sums as tensors. Waits for the device."""
        if self._pending:
            self.timer.wait(self._pending[-1][2])
        while self._pending:
            self._add_first()
        values = {
            "ms": list(self.total_ms.values()),
            "steps": self.steps,
            "samples": self.samples,
            "elapsed_ms": sum(self.total_ms.values()),
        }
        return {name: torch.tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}

    def _add_first(self) -> None:
        phase, start, end = self._pending.popleft()
        self.total_ms[phase] += self.timer.elapsed_ms(start, end)


def summarize(state: dict[str, Tensor]) -> dict[str, float]:
    """Return the ms per step of each phase, and ``samples_per_s``, of a reduced state; NaN where there was no step."""
    means = (state["ms"] / state["steps"]).tolist()
    samples_per_s = (1000.0 * state["samples"] / state["elapsed_ms"]).item()
    return dict(zip(PHASES, means, strict=True)) | {"samples_per_s": samples_per_s}
