"""Check stock callbacks that step a scheduler or set the learning rate."""

from typing import Any

from catalyst import dl
from catalyst.callbacks.scheduler import ILRUpdater
from catalyst.contrib.schedulers import BatchScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.support.unwrap import by_name, inside

from ...recipe.schedulers import WarmUp
from ..parts.run_view import RunView


class Schedules:
    """The schedulers of a run that callbacks step.

    Args:
        runner: set up, with its callbacks.

    Raises:
        UsageError: a callback names no scheduler of the run, steps at other times than the runner was asked to, or two
            step the same scheduler.
    """

    def __init__(self, runner: RunView):
        self._runner = runner
        self._callbacks = [it for it in map(inside, runner.callbacks.values()) if isinstance(it, dl.ISchedulerCallback)]
        stepped = [_scheduler_of(runner, it) for it in self._callbacks if isinstance(it, dl.SchedulerCallback)]
        if twice := {name for name in stepped if stepped.count(name) > 1}:
            raise UsageError(f"two SchedulerCallbacks step the scheduler {listing(twice)}: leave one of them out.")
        # Other callbacks, such as LRFinder, set the rate themselves; Catalyst's runner steps no scheduler beside them.
        others = len(stepped) < len(self._callbacks)
        self._stepped = set(by_name(runner.scheduler)) if others else set(stepped)

    def has(self, name: str) -> bool:
        """Return whether a callback steps the scheduler with that name; a single scheduler is named ``""``."""
        return name in self._stepped

    def step_without_batch(self) -> None:
        """Step as after a training batch, in a round in which this rank has none, to stay in step with other ranks."""
        for callback in self._callbacks:
            if isinstance(callback, dl.SchedulerCallback) and callback.mode == "batch":
                callback.make_batch_step(self._runner)
            elif isinstance(callback, ILRUpdater):
                callback.update_optimizer(self._runner)


def _scheduler_of(runner: RunView, callback: Any) -> str:
    """Return the name of the scheduler that a callback steps."""
    schedulers, key = by_name(runner.scheduler), callback.scheduler_key
    if runner.scheduler is None:
        raise UsageError("SchedulerCallback has no scheduler to step: pass scheduler=... to train(), or leave it out.")
    if (key or "") not in schedulers:
        known = "a single one, which needs no key" if "" in schedulers else f"several, {listing(schedulers)}"
        raise UsageError(f"scheduler_key must name a scheduler of the run, got {key!r}: there is {known}.")
    _check_rule(runner, callback, schedulers[key or ""])
    return key or ""


def _check_rule(runner: RunView, callback: Any, scheduler: Any) -> None:
    # Catalyst asks isinstance before it hands the metric to a ReduceLROnPlateau: within WarmUp it would get none.
    if isinstance(scheduler, WarmUp) and isinstance(scheduler.scheduler, ReduceLROnPlateau):
        raise UsageError(
            "SchedulerCallback cannot step a ReduceLROnPlateau within WarmUp: leave it out; DictRunner steps it by "
            "scheduler_metric."
        )
    if isinstance(scheduler, ReduceLROnPlateau) and callback.metric_key is None:
        raise UsageError(
            "SchedulerCallback needs loader_key and metric_key for ReduceLROnPlateau: give both, or leave it out; "
            "DictRunner steps it by scheduler_metric."
        )
    # The default that Catalyst chooses at the start of the run, which is still to come.
    mode = callback.mode or ("batch" if isinstance(scheduler, BatchScheduler) else "epoch")
    if runner.scheduler_step == "batch" and mode == "epoch":
        raise UsageError(
            "scheduler_step is 'batch', and SchedulerCallback steps by epoch: leave one of them out, or give the "
            "callback mode='batch'."
        )
