"""OverheadBudget: keeps the time of all diagnostics below a share of the loop's time."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count
from typing import Any

from catalyst import dl
from torch.utils.hooks import RemovableHandle

from ..base.diagnostic import Diagnostic
from ..base.meter import Meter
from ..base.order import FIRST
from ..errors import UsageError
from ..measures.overhead_budget import LATE, LOOP, PICTURES, Label, Laps, Shares, Spent
from ..measures.phase_times import CudaTimer, HostTimer
from ..support.distributed import reduce_state, world_size
from ..support.host_copy import copy_tree, read_tree
from ..support.runner_view import steps_in_loader
from ..support.unwrap import inside, raw_optimizers
from ..tensorboard.find_writer import find_writer
from ..tensorboard.writer import Writer
from .plan import OverheadPlan

_RUN = "run"  # key of the writer for what belongs to no loader; every loader's name begins otherwise
# Steps of the first epoch before anything is decided, so that no single step decides.
_FIRST_STEPS = 8


class OverheadBudget(Diagnostic):
    """Measures the time of all other diagnostics of the run, and thins the costly ones until they fit a budget.

    Two things are thinned: gradients are observed at fewer optimizer steps (``GradientStats``), and pictures are drawn
    in fewer epochs, though always in the first and the last one. The costliest of these are reduced to one common
    level, at which all diagnostics together take ``max_overhead`` of the loop's time, on average over epochs.
    Everything that is counted over samples (metrics, confusion matrices, curves, best and worst) stays exact.

    ==================================== ====== ====================================================================
    tag, in the folder of each loader    kind   step and content
    ==================================== ====== ====================================================================
    ``9_overhead/share``                 scalar epoch; time of all diagnostics, as a share of the loop's without them
    ``9_overhead/NAME``                  scalar epoch; share of one diagnostic, by its class; ``NAME-2`` for the
                                                second
    ``9_overhead/share_of_all_loaders``  scalar epoch, in train's folder; this share is kept below the budget
    ``9_overhead/every_n_steps/NAME``    scalar epoch, in train's folder: one in so many steps is observed
    ``9_overhead/every_n_epochs/NAME``   scalar epoch, in train's folder: pictures are drawn in one of so many epochs
    ==================================== ====== ====================================================================

    Each thinned diagnostic is logged once (logger ``assay``). A budget that is too small for what cannot be thinned is
    logged too, with the costliest diagnostics. The time of a diagnostic is that of its events and of its work on
    gradients. Callbacks that a run has without diagnostics too (``Metrics``, ``HParams``, ``NonFiniteGuard``) count as
    part of the loop. On a CPU, the CPU time of the thread that draws is included. On a GPU, times are those of its
    queue: work that overlaps with the queue costs nothing.

    Timing begins after the first optimizer step. The interval of gradients is adapted in the first epoch after 8, 16,
    32, ... optimizer steps, and then at the end of each epoch. The interval of pictures is adapted from the end of the
    second epoch on, as the first pictures take longer. With several ranks the slowest one counts, and all decide alike.
    Nothing waits for the device within a step, and ranks exchange nothing but the measured times before these
    decisions.

    A resumed run continues with the same intervals. As they depend on a clock, two runs may observe different steps, so
    that their pictures of gradients differ; the training does not.

    Args:
        max_overhead: time of the diagnostics as a share of the loop's, greater than 0 and at most 1; 0.05 is 5%.
        clock: returns the time in seconds; used on a CPU.
        thread_clock: returns the CPU time of the calling thread in seconds.

    Raises:
        UsageError: ``max_overhead`` is out of range; a clock cannot be called; at the start of the run, there is
            another ``OverheadBudget``, or no TensorBoard logger.
    """

    observed = ()
    one_a_run = True
    counts_as_overhead = False  # it measures the others, and takes no time that they could save

    def __init__(
        self,
        max_overhead: float = 0.05,
        *,
        clock: Callable[[], float] = time.perf_counter,
        thread_clock: Callable[[], float] = time.thread_time,
    ):
        super().__init__(order=FIRST)
        self.max_overhead = check_overhead(max_overhead)
        for name, given in (("clock", clock), ("thread_clock", thread_clock)):
            if not callable(given):
                raise UsageError(f"{name} must be a function that returns seconds, got {given!r}.")
        self.clock, self.thread_clock = clock, thread_clock
        self._start_anew()

    def _start_anew(self) -> None:
        self.diagnostics_: dict[str, Diagnostic] = {}
        self.loaders_: list[str] = []  # those of all epochs, as an epoch may leave out some
        self.laps_ = Laps(HostTimer(self.clock))
        self.plan_ = OverheadPlan(self.max_overhead, {}, 1)
        self.hook_: RemovableHandle | None = None
        self.loop_: Label | None = None  # the label of the current loader, once timing has begun
        self.first_epoch_ = 0
        self.steps_ = 0  # of the first epoch, without the very first one
        self.agreed_: Callable[[], Shares] | None = None

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self._start_anew()
        if sum(isinstance(inside(callback), OverheadBudget) for callback in runner.callbacks.values()) > 1:
            raise UsageError("OverheadBudget stands twice in the run: give one max_overhead for all diagnostics.")
        super().on_experiment_start(runner)
        self.writers_[_RUN] = find_writer(runner, None, asked_by=type(self).__name__)
        on_gpu = runner.engine.device.type == "cuda"
        self.laps_ = Laps(CudaTimer() if on_gpu else HostTimer(self.clock))
        self.diagnostics_, self.loaders_ = _diagnostics_by_name(runner), list(runner.loaders)
        for name, one in self.diagnostics_.items():
            one.meter_ = Meter(name, self.laps_, None if on_gpu else self.thread_clock)
        self.plan_ = OverheadPlan(self.max_overhead, self.diagnostics_, runner.num_epochs)
        # One optimizer is enough to count the steps.
        for optimizer in list(raw_optimizers(runner.optimizer).values())[:1]:
            self.hook_ = optimizer.register_step_post_hook(partial(self._on_step, runner))

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        self.first_epoch_ = self.first_epoch_ or runner.epoch_step
        self.plan_.begin_epoch(runner.epoch_step, runner.num_epochs)

    def begin(self, runner: dl.IRunner) -> None:
        if runner.is_train_loader:
            self.plan_.begin_training(steps_in_loader(runner))
        if self.loop_ is not None:
            self._run_loop(runner)

    def observe(self, runner: dl.IRunner) -> None:
        """Do nothing: this diagnostic measures the others."""

    def report(self, runner: dl.IRunner, writer: Writer) -> None:
        """Do nothing: the other diagnostics report after this one."""

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        if self.loop_ is not None:
            self._end_epoch(runner)
        super().on_epoch_end(runner)

    def _end_epoch(self, runner: dl.IRunner) -> None:
        self.laps_.begin(None)
        shares, self.agreed_ = self._agree(runner, self._take(runner.epoch_step))(), None
        # 0 if the device has not finished any part of the loop yet.
        if not shares.loop_ms:
            return
        for loader, by_name in shares.by_loader().items():
            taken = {f"9_overhead/{name}": float(share) for name, share in by_name.items()}
            self.writers_[loader].scalars({"9_overhead/share": sum(taken.values()), **taken}, runner.epoch_step)
        values = {"9_overhead/share_of_all_loaders": shares.total(), **self.plan_.values()}
        self.writers_[_RUN].scalars(values, runner.epoch_step)
        if runner.epoch_step > self.first_epoch_:
            self.plan_.adapt(shares, self.writers_[_RUN], f"epoch {runner.epoch_step}")

    def release(self, runner: dl.IRunner) -> None:
        if self.hook_ is not None:
            self.hook_.remove()
        for one in self.diagnostics_.values():
            one.meter_ = None
        self.hook_, self.loop_ = None, None

    def state_dict(self) -> dict[str, Any]:
        """Return the intervals and their costs, in types that ``weights_only=True`` loads."""
        return self.plan_.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.plan_.load_state_dict(state)

    def _run_loop(self, runner: dl.IRunner) -> None:
        self.loop_ = Label(runner.loader_key, LOOP)
        self.laps_.begin(self.loop_)

    def _on_step(self, runner: dl.IRunner, *_: Any) -> None:
        """Begin timing after the first step, and adapt the interval of steps within the first epoch."""
        if self.loop_ is None:
            self._run_loop(runner)
        elif runner.epoch_step == self.first_epoch_ and self.plan_.steps:
            self.steps_ += 1
            # Sent at the step before, so it has reached the host by now.
            if self.agreed_ is not None:
                shares, self.agreed_ = self.agreed_(), None
                if shares.loop_ms:
                    self.plan_.adapt_steps(shares, self.writers_[_RUN], f"epoch {runner.epoch_step} so far")
            # At powers of two: early enough to matter, and only a few collectives.
            elif self.steps_ >= _FIRST_STEPS and self.steps_.bit_count() == 1:
                self.agreed_ = self._agree(runner, self.laps_.total_ms)

    def _take(self, epoch: int) -> dict[Label, float]:
        """Return the time of the epoch, with that of the writer's thread so far, and begin the next epoch at 0."""
        total_ms, self.laps_.total_ms = self.laps_.total_ms, defaultdict(float)
        for meter in self.plan_.meters.values():
            for _ in range(len(meter.drawn)):
                label, ms, drawn_epoch = meter.drawn.popleft()
                if drawn_epoch == epoch or label.kind != PICTURES:
                    total_ms[label] += ms
                # The first pictures take longer than later ones, and would thin them too much.
                elif drawn_epoch != self.first_epoch_:
                    total_ms[label._replace(kind=LATE)] += ms
        return total_ms

    def _agree(self, runner: dl.IRunner, total_ms: Mapping[Label, float]) -> Callable[[], Shares]:
        """Start reducing the time over ranks, and return a function that reads it on the host. A collective."""
        loaders, names = self.loaders_, list(self.diagnostics_)
        state, device = Spent(total_ms, loaders, names).state, runner.engine.device
        if world_size() > 1:
            state = {name: part.to(device, non_blocking=True) for name, part in state.items()}
            state = reduce_state(state, Spent.reductions)
        copies = copy_tree(state)
        return lambda: Shares(read_tree(copies), loaders, names)


def check_overhead(value: float) -> float:
    """Return ``value``; raise a ``UsageError`` if it is no share greater than 0 and at most 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise UsageError(f"max_overhead must be greater than 0 and at most 1 (0.05 is 5%), got {value!r}.")
    return value


def _diagnostics_by_name(runner: dl.IRunner) -> dict[str, Diagnostic]:
    """Return the diagnostics of the run by the name of their class, with numbers for several of one class."""
    # Unwrapped: Catalyst's own wrappers, as for every n-th epoch, hold the diagnostic.
    found: dict[str, Diagnostic] = {}
    for callback in runner.callbacks.values():
        inner = inside(callback)
        if isinstance(inner, Diagnostic) and inner.counts_as_overhead:
            kind = type(inner).__name__
            names = (kind if number == 1 else f"{kind}-{number}" for number in count(1))
            found[next(name for name in names if name not in found)] = inner
    return found
