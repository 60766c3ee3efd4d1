"""What a training step asks of host and device, from one forward pass to the next, in any framework."""

import time
import warnings
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

WAITS = "called a synchronizing CUDA operation"
_ON_DEVICE = ("kernels", "copies", "fills")


class Probe:
    """Watches the training steps of a model that it is attached to.

    The first steps pass. In those that follow, the device is done before a step begins, so that the time until the next
    one is what the host takes to ask for a step, and not what it waits for the device. Then the profiler counts what
    was asked for, and torch what would have waited.

    Args:
        device: ``cuda``; or ``cpu``, where operators are counted in place of kernels, nested ones too.
        window: steps that are measured: as many as lie between two steps that are looked at more closely.
        first: steps that pass before.

    Attributes:
        found: what was measured per step, filled in after ``steps`` training steps.
    """

    def __init__(self, device: str, window: int, first: int):
        self.on_gpu, self.window, self.first = device == "cuda", window, first
        self.steps = first + 2 * window + 1
        self.found: dict[str, float | None] = {}
        self._count = 0
        self._host: list[float] = []
        self._began = 0.0

    def attach(self, model: nn.Module) -> None:
        """Watch the steps of this model, in its training alone."""
        model.register_forward_pre_hook(self._on_forward)

    def _on_forward(self, model: nn.Module, given: Any) -> None:
        if not model.training:
            return
        timed, counted = self.first, self.first + self.window
        if timed < self._count <= counted:
            self._host.append(time.perf_counter() - self._began)
        if self._count == counted:
            self._begin_to_count()
        if self._count == counted + self.window:
            self._end()
        if self.on_gpu and timed <= self._count < counted:
            torch.cuda.synchronize()
        self._count += 1
        self._began = time.perf_counter()

    def _begin_to_count(self) -> None:
        activity = ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU
        self._profile = profile(activities=[activity])
        self._profile.start()
        self._caught = warnings.catch_warnings(record=True)
        self._warnings = self._caught.__enter__()
        warnings.simplefilter("always")
        if self.on_gpu:
            torch.cuda.set_sync_debug_mode("warn")

    def _end(self) -> None:
        if self.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
        self._caught.__exit__(None, None, None)
        waits = sum(WAITS in str(warning.message) for warning in self._warnings)
        self._profile.stop()
        self.found["host_ms"] = 1000 * sum(self._host) / len(self._host)
        self.found["waits"] = waits / self.window if self.on_gpu else None
        counts = Counter(map(_kind, self._profile.events() or ()))
        for kind in _ON_DEVICE if self.on_gpu else ("operators",):
            # None at all: the profiler of this machine shows no device.
            self.found[kind] = counts[kind] / self.window if counts.total() else None


def _kind(event: Any) -> str:
    if event.is_user_annotation:  # a span with a name, of several kernels
        return "others"
    if event.device_type != torch.autograd.DeviceType.CUDA:
        return "operators" if event.name.startswith("aten::") else "others"
    name = event.name.lower()
    return "copies" if "memcpy" in name else "fills" if "memset" in name else "kernels"
