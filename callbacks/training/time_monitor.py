"""TimeMonitor: time of each phase of a step, throughput and peak memory, per epoch."""

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from catalyst import dl

from ..base.diagnostic import Diagnostic
from ..base.order import FIRST, surround
from ..errors import UsageError
from ..measures.phase_times import CudaTimer, HostTimer, PhaseTimes, summarize
from ..support.distributed import reduce_state
from ..support.runner_view import batch_size
from ..support.unwrap import by_name, raw_optimizers
from ..tensorboard.writer import Writer
from .call_hooks import Handle, around_calls


class TimeMonitor(Diagnostic):
    """Writes how long each phase of a step takes, the throughput and the peak memory, every epoch.

    Tags are written for each loader, in its folder, at the step ``epoch``. Times are means over the steps of the
    loader.

    ======================== ======= ===================================================================================
    tag                      unit    from ... to ...
    ======================== ======= ===================================================================================
    ``9_time/data``          ms/step the last callback of ``on_batch_end`` (before the first batch: of
                                     ``on_loader_start``) to the first of ``on_batch_start``: waiting for the loader,
                                     and the runner's own logging of the batch, which follows its callbacks
    ``9_time/forward``       ms/step the call of a model to its return, all models of the runner together
    ``9_time/backward``      ms/step the return of a model to the optimizer's step, or, if none follows, to the end of
                                     ``handle_batch``: this includes the loss and clipping; training loaders only
    ``9_time/optimizer``     ms/step the optimizer's step alone, all optimizers together; training loaders only
    ``9_time/diagnostics``   ms/step the end of ``handle_batch``, or of the last callback for the criterion, backward,
                                     optimizer or scheduler, as stock runners have them, to the last callback of
                                     ``on_batch_end``
    ``9_time/samples_per_s`` 1/s     samples of all ranks, over the time from the first wait for data to the end of the
                                     last step
    ``9_memory/peak_mib``    MiB     most memory allocated on the GPU since the loader began, on a CPU most memory
                                     resident since the process began; the largest over ranks
    ======================== ======= ===================================================================================

    Time between these phases counts only for the throughput. On a GPU all times are those of its queue: work of the
    host that overlaps with the queue takes no time, and no step waits. The peak of the GPU is reset at the start of
    each loader.

    Args:
        clock: returns the time in seconds; used on a CPU.
        prefix: added to the tags, as ``TAG/PREFIX``; a second callback of this kind needs one.

    Raises:
        UsageError: ``clock`` cannot be called; at the start of the run, there is no TensorBoard logger.
    """

    # A run may be resumed on another machine, whose times would be mixed with those of the first.
    observed = ()

    own_tags = ("9_memory/peak_mib",)

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter, prefix: str = ""):
        if not callable(clock):
            raise UsageError(f"clock must be a function that returns seconds, got {clock!r}.")
        super().__init__(prefix=prefix)
        self.clock = clock
        self.times_: PhaseTimes | None = None
        self.hooks_: list[Handle] = []
        self.marks_: dict[str, _Mark] = {}

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        super().on_experiment_start(runner)
        for model in by_name(runner.model).values():
            forward, backward = (partial(self._within_step, phase) for phase in ("forward", "backward"))
            self.hooks_ += around_calls(model, forward, backward)
        for optimizer in raw_optimizers(runner.optimizer).values():
            self.hooks_.append(optimizer.register_step_pre_hook(partial(self._within_step, "optimizer")))
            self.hooks_.append(optimizer.register_step_post_hook(partial(self._within_step, "other")))
        self._insert_marks(runner)

    def begin(self, runner: dl.IRunner) -> None:
        device = runner.engine.device
        self.times_ = PhaseTimes(CudaTimer() if device.type == "cuda" else HostTimer(self.clock))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def observe(self, runner: dl.IRunner) -> None:
        if self.times_ is not None:
            self.times_.add_step(batch_size(runner))

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        if self.times_ is None:
            return
        device = runner.engine.device
        state = self.times_.state(device)
        state["peak"] = torch.tensor(_peak_mib(device), dtype=torch.float64, device=device)
        state = reduce_state(state, {**PhaseTimes.reductions, "peak": "max"})
        dropped = {"other"} if runner.is_train_loader else {"other", "backward", "optimizer"}
        values = {f"9_time/{name}": value for name, value in summarize(state).items() if name not in dropped}
        values["9_memory/peak_mib"] = state["peak"].item()
        writer.scalars({self.full_tag(tag): value for tag, value in values.items()}, runner.epoch_step)
        self.times_ = None

    def _begin_phase(self, phase: str, *_: Any) -> None:
        if self.times_ is not None:
            self.times_.begin(phase)

    def _within_step(self, phase: str, *_: Any) -> None:
        """Begin a phase, if the runner is within a step."""
        # Another diagnostic may call the model too, as Grad-CAM does; that is no part of the step.
        if self.times_ is not None and self.times_.phase not in (None, "data", "diagnostics"):
            self.times_.begin(phase)

    def _insert_marks(self, runner: dl.IRunner) -> None:
        # Two monitors of one run, with different prefixes, must not replace each other's marks.
        name = f"{type(self).__name__}-{id(self)}"
        data = partial(self._begin_phase, "data")
        first = {f"{name}-start": _Mark(on_batch_start=partial(self._begin_phase, "other"))}
        after_step = {f"{name}-stepped": _Mark(on_batch_end=partial(self._begin_phase, "diagnostics"))}
        last = {f"{name}-end": _Mark(on_loader_start=data, on_batch_end=data)}
        self.marks_ = {**first, **after_step, **last}
        # The time of the other callbacks is only known from before the first to after the last of them, and a callback
        # has one place in the order. So marks are added while the run starts: to a new dict, as Catalyst iterates over
        # the old one at this moment. ``release`` removes them.
        runner.callbacks = surround(runner.callbacks, first=first, after_step=after_step, last=last)

    def release(self, runner: dl.IRunner) -> None:
        for hook in self.hooks_:
            hook.remove()
        runner.callbacks = {name: part for name, part in runner.callbacks.items() if name not in self.marks_}
        self.hooks_, self.marks_, self.times_ = [], {}, None


class _Mark(dl.Callback):
    """Calls functions at the events that name them."""

    def __init__(self, **hooks: Callable[[dl.IRunner], None]):
        super().__init__(order=FIRST)
        for event, hook in hooks.items():
            setattr(self, event, hook)


def _peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB
