"""What times the diagnostics of a run from within, callback by callback, for ``benchmarks.growth_point``."""

import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from catalyst import dl

from assay.runner import DictRunner

_TIMED = {
    "begin": ("on_epoch_start", "on_loader_start"),
    "step": ("on_batch_start", "on_batch_end"),
    "end": ("on_loader_end", "on_epoch_end"),
}


class Meter(dl.Callback):
    """Times the parts of diagnostics, epoch by epoch; the first callback of all.

    Args:
        device: ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str):
        super().__init__(order=-1)
        self.device = device
        self.epochs: list[dict[str, Any]] = []
        self.clock = time.perf_counter if device == "cuda" else time.thread_time
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self.end_wall = 0.0
        self.within = ""

    def watch(self, callback: dl.Callback) -> dl.Callback:
        """Have the events of a callback timed."""
        for part, events in _TIMED.items():
            for event in events:
                setattr(callback, event, self.timed(type(callback).__name__, part, getattr(callback, event)))
        return callback

    def timed(self, name: str, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that adds the time it takes to that of a part."""

        @wraps(function)
        def run(*arguments: Any) -> Any:
            self.wait(part == "end")
            outer, self.within = self.within, name
            began, clock = self.clock(), time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self.wait(part == "end")
                self.seconds[name, part] += self.clock() - began
                self.end_wall += (time.perf_counter() - clock) * (part == "end")
                self.within = outer

        return run

    def wait(self, needed: bool = True) -> None:
        if needed and self.device == "cuda":
            torch.cuda.synchronize()

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        self.seconds.clear()
        self.end_wall = 0.0
        _reset_peak(self.device)
        self.process, self.thread = time.process_time(), time.thread_time()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self.wait()
        self.began = self.clock()

    def on_loader_end(self, runner: dl.IRunner) -> None:
        self.wait()
        self.loader_seconds, self.steps = self.clock() - self.began, len(runner.rank_batches)

    def finish_epoch(self, runner: dl.IRunner) -> None:
        """Sum up, after all other callbacks."""
        for logger in runner.loggers.values():
            for writer in logger.writers_.values():
                writer.drain()
        threads = (time.process_time() - self.process) - (time.thread_time() - self.thread)
        of = {part: sum(s for (_, which), s in self.seconds.items() if which == part) for part in _TIMED}
        diagnostics = 0.0 if self.device == "cuda" else of["begin"] + of["step"]
        parts: dict[str, dict[str, float]] = defaultdict(dict)
        for (name, part), seconds in self.seconds.items():
            parts[name][part] = 1000 * seconds / (self.steps if part == "step" else 1)
        self.epochs.append(
            {
                "step": 1000 * of["step"] / self.steps,
                "loop": 1000 * (self.loader_seconds - diagnostics) / self.steps,
                "loader_end": 1000 * of["end"],
                "loader_end_wall": 1000 * self.end_wall,
                "writer": 1000 * threads,
                "peak": _peak_mib(self.device),
                "parts": dict(parts),
            }
        )


class MeteredRunner(DictRunner):
    """Times the hooks on the gradients too, as parts of the callbacks that register them."""

    meter: Meter

    def register_gradient_hook(self, hook: Callable[[], None]) -> Any:
        return super().register_gradient_hook(self.meter.timed(self.meter.within, "step", hook))

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        super().on_epoch_end(runner)
        self.meter.finish_epoch(runner)


def _reset_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    elif os.path.exists("/proc/self/clear_refs"):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    if os.path.exists("/proc/self/status"):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of the process since it began, on macOS
