"""CUDA tensors on a machine without a GPU: torch's fake tensors know device, type and shape, and hold no values.

An operation on two devices and a value that the host reads are errors on them, as they are errors or waits on a GPU.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily

from assay.callbacks.measures.data_statistics import DataStatistics
from assay.callbacks.samples import embeddings
from assay.callbacks.support import host_copy, host_targets
from assay.callbacks.support.host_copy import HostCopy
from assay.callbacks.training.gradient_watch import GradientWatch
from assay.runner import DictRunner, Engine
from assay.runner.loop import optimizer_step
from assay.runner.loop.epoch_loop import EpochLoop
from assay.runner.recipe import loss_counts

CUDA = torch.device("cuda", 0)
STEPS = 4  # of a run, of its first loader, unless other ones are asked for


class HostEvent:
    """An event of a stream that does everything at once."""

    def __init__(self, enable_timing: bool = False):
        self.enable_timing = enable_timing

    def record(self, stream: object = None) -> None: ...

    def synchronize(self) -> None: ...

    def query(self) -> bool:
        return True

    def elapsed_time(self, end: "HostEvent") -> float:
        return 0.0


def _begin(copy: HostCopy, tensor: Tensor, *, own: bool = False) -> None:
    copy._arrived = None
    copy._host = tensor.detach().to("cpu", non_blocking=True)


def _read(copy: HostCopy) -> Tensor:
    """Return zeros in place of values that there are not."""
    with unset_fake_temporarily():
        # By NumPy, as nothing of it would be asked of a GPU.
        zeros = torch.from_numpy(np.zeros(copy._host.shape, dtype=np.float32))
        return zeros.to(copy._host.dtype)


def _put(*arguments: Any) -> None:
    with unset_fake_temporarily():  # all of it has been read
        _PUT(*arguments)


_PUT = embeddings._keep_samples


def _to_numpy(tensor: Tensor) -> np.ndarray:
    with unset_fake_temporarily():
        return tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()


def _given_to_numpy(target: Tensor) -> np.ndarray:
    with unset_fake_temporarily():  # what the loader gave is real
        return _TO_NUMPY(target)


_TO_NUMPY = host_targets.to_numpy


def _count(*arguments: Any) -> None:
    with unset_fake_temporarily():  # of what the loader gave, on the host
        _COUNT(*arguments)


_COUNT = DataStatistics.update


@contextmanager
def fake_cuda() -> Iterator[FakeTensorMode]:
    """Return the mode in which ``device="cuda"`` makes fake tensors; streams, events and copies are stood in for."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)

    def count_group(*arguments: Any) -> dict[str, Tensor]:
        with mode:  # between a fetch, which is real, and the step
            return loss_counts.count_group(*arguments)

    with ExitStack() as stack:
        for owner, name, stand_in in (
            (torch.cuda, "Event", HostEvent),
            (torch.cuda, "current_stream", lambda device=None: None),
            (torch.cuda, "get_rng_state", lambda device=None: torch.zeros(16, dtype=torch.uint8)),
            (torch.cuda, "reset_peak_memory_stats", lambda device=None: None),
            (torch.cuda, "max_memory_allocated", lambda device=None: 0),
            (HostCopy, "__init__", _begin),
            (HostCopy, "read", _read),
            (host_copy, "_to_numpy", _to_numpy),
            (host_targets, "to_numpy", _given_to_numpy),
            (DataStatistics, "update", _count),
            (optimizer_step, "count_group", count_group),
            (embeddings, "_keep_samples", _put),
            (GradientWatch, "_suspect", lambda watch, broken: None),  # what the host has counted is fake as well
        ):
            stack.enter_context(mock.patch.object(owner, name, stand_in))
        yield mode


class FakeEngine(Engine):
    """An engine whose device is a GPU that is not there."""

    def __init__(self) -> None:
        super().__init__("cpu", device_placement=False)

    @property
    def device(self) -> torch.device:
        return CUDA


class StepsAreDoneError(Exception):
    """Ends a run before anything that was observed is read."""


class FakeLoop(EpochLoop):
    """Runs each round in the mode of its runner, and ends the run after the first ones."""

    def __init__(self, run: "FakeRunner", steps: int):
        super().__init__(run)
        self.steps = steps
        self.step = ExitStack()
        self.observed = 0

    def _advance_counters(self, rank_batch: Any) -> None:
        super()._advance_counters(rank_batch)
        self.step.enter_context(self.run.mode)

    def _end_round(self) -> None:
        super()._end_round()
        self.step.close()
        self.observed += 1
        if self.observed == self.steps:
            raise StepsAreDoneError


class FakeRunner(DictRunner):
    """Makes the first steps of a loader on fake tensors, and ends the run before the loader's end.

    What the loader delivers is real. There is no backward pass on fake tensors: gradients are made in its place.
    """

    def __init__(self, mode: FakeTensorMode, steps: int = STEPS, **options: Any):
        super().__init__(**options)
        self.mode = mode
        self.loop = FakeLoop(self, steps)

    def _shard(self, loader: Any, *, trains: bool) -> Any:
        sharded = super()._shard(loader, trains=trains)
        sharded.pin_memory = False
        return sharded

    def _run_event(self, event: str) -> None:
        with self.mode if event in ("on_experiment_start", "on_loader_start") else nullcontext():
            super()._run_event(event)

    def on_experiment_start(self, runner: Any) -> None:
        super().on_experiment_start(runner)
        self.engine.backward = self._make_gradients

    def _make_gradients(self, loss: Tensor) -> None:
        if loss.device != CUDA:
            raise ValueError(f"the loss is on {loss.device}, and not on {CUDA}.")
        for parameter in self.optimizer_step.parameters():
            parameter.grad = torch.zeros_like(parameter)
