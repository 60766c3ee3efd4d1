"""The learning rate over the whole run, as a copy of the scheduler plans it."""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from catalyst import dl
from torch import nn
from torch.optim import Optimizer, lr_scheduler

from ....support.rng import RngState
from ....support.runner_view import callbacks_of, scheduler_moment
from ....support.unwrap import by_name, inside, raw_optimizers
from .optimizers import innermost, number, planned_rates

POINTS = 400
# What is simulated step by step takes some 10 microseconds each.
_MOST_STEPS = 20_000
# In the unit in which the scheduler does not step, as far as is known.
_MOST_OTHERWISE = 5_000
# What a user's own schedule may raise where it is stepped without its run.
_FAILURES = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
# Those whose rate at a step follows from its number alone, so that steps may be left out.
_CLOSED_FORM = (
    lr_scheduler.LambdaLR, lr_scheduler.OneCycleLR, lr_scheduler.CyclicLR, lr_scheduler.CosineAnnealingLR,
    lr_scheduler.StepLR, lr_scheduler.MultiStepLR, lr_scheduler.ExponentialLR, lr_scheduler.LinearLR,
    lr_scheduler.ConstantLR, lr_scheduler.PolynomialLR,
)  # fmt: skip
# As torch calls what a schedule is made for.
_LENGTHS = ("total_steps", "T_max", "total_iters")


@dataclass(frozen=True)
class Plan:
    """What a scheduler is going to do.

    Attributes:
        name: of its class; "" where there is none.
        moment: whether it steps by ``batch`` or ``epoch``; None where nothing tells.
        length: how many of its steps it is made for; None where it does not say.
        factors: by ``batch`` and by ``epoch``, the factors on the learning rate that the first group was given if it
            stepped so, at up to ``POINTS`` evenly spaced steps of the run; none where they depend on metrics.
    """

    name: str = ""
    moment: str | None = None
    length: int | None = None
    factors: dict[str, tuple[float, ...]] = field(default_factory=dict)


def observe_plan(runner: dl.IRunner, epochs: int, steps_per_epoch: int) -> Plan:
    """Return what the first scheduler of a run is going to do.

    Args:
        runner: at the start of the run.
        epochs: that are to come.
        steps_per_epoch: optimizer steps.
    """
    schedulers = by_name(runner.scheduler)
    if not schedulers:
        return Plan()
    key, scheduler = next(iter(schedulers.items()))
    name, moment = type(innermost(scheduler)).__name__, _moment(runner, key)
    if _asks_for_metrics(scheduler):
        return Plan(name, moment)
    factors: dict[str, tuple[float, ...]] = {}
    with RngState.take(runner.engine.device).again(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of steps out of order are about the copy
        for unit in ("batch", "epoch"):
            most = _MOST_STEPS if unit == moment else _MOST_OTHERWISE
            found = _plan(runner, scheduler, unit, epochs, steps_per_epoch, most)
            factors |= {unit: found} if found else {}
    return Plan(name, moment, _length(innermost(scheduler)), factors)


def _length(scheduler: Any) -> int | None:
    """Return how many steps a schedule is made for, as its arguments say."""
    parts, after = getattr(scheduler, "_schedulers", ()), getattr(scheduler, "_milestones", ())
    if parts and after:
        last = _length(parts[-1])
        return None if last is None else int(after[-1]) + last
    found = next((getattr(scheduler, name, None) for name in _LENGTHS if hasattr(scheduler, name)), None)
    return int(found) if isinstance(found, int | float) else None


def _moment(runner: dl.IRunner, key: str) -> str | None:
    for callback in map(inside, callbacks_of(runner)):
        if isinstance(callback, dl.SchedulerCallback) and (callback.scheduler_key or "") == key:
            return callback.mode or "epoch"
    return scheduler_moment(runner)


def _asks_for_metrics(scheduler: Any) -> bool:
    inner = innermost(scheduler)
    parts = [inner, *getattr(inner, "_schedulers", ())]
    return any(isinstance(part, lr_scheduler.ReduceLROnPlateau) for part in parts)


def _plan(
    runner: dl.IRunner, scheduler: Any, moment: str, epochs: int, steps_per_epoch: int, most: int
) -> tuple[float, ...]:
    optimizer = _optimizer_of(runner, scheduler)
    if optimizer is None:
        return ()
    rates = planned_rates(runner)
    index = next((i for i, group in enumerate(optimizer.param_groups) if rates.get(id(group))), None)
    if index is None:
        return ()
    base = rates[id(optimizer.param_groups[index])]
    try:
        copied, group = _copy(runner, scheduler, optimizer, index)
        wanted = _points(epochs * steps_per_epoch)
        found = _rates(copied, group, index, 1 if moment == "batch" else steps_per_epoch, wanted, most)
        return tuple(rate / base for rate in found)
    except _FAILURES:
        return ()


def _optimizer_of(runner: dl.IRunner, scheduler: Any) -> Optimizer | None:
    own = getattr(scheduler, "optimizer", None)
    known = raw_optimizers(runner.optimizer)
    return raw_optimizers(own)[""] if own is not None else next(iter(known.values()), None)


def _copy(runner: dl.IRunner, scheduler: Any, optimizer: Optimizer, index: int) -> tuple[Any, dict[str, Any]]:
    """Return a copy of a scheduler, and the group of its optimizer that is looked at.

    The copy is that of an optimizer that has the same groups and trains nothing: no weight is copied.
    """
    groups = [
        {**_without_parameters(group), "params": [nn.Parameter(torch.zeros(1))]} for group in optimizer.param_groups
    ]
    stand_in = torch.optim.SGD(groups, lr=0.0)
    stand_in.defaults = copy.deepcopy(optimizer.defaults)
    memo: dict[int, Any] = {id(part): stand_in for part in (optimizer, *by_name(runner.optimizer).values())}
    # A schedule of a user's own may hold a model, or the run: these are shared.
    memo |= {id(part): part for part in (runner, *by_name(runner.model).values())}
    return copy.deepcopy(scheduler, memo), stand_in.param_groups[index]


def _without_parameters(group: dict[str, Any]) -> dict[str, Any]:
    return {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}


def _points(steps: int) -> list[int]:
    if steps <= POINTS:
        return list(range(steps))
    return [round(place * (steps - 1) / (POINTS - 1)) for place in range(POINTS)]


def _rates(scheduler: Any, group: dict[str, Any], index: int, every: int, wanted: list[int], most: int) -> list[float]:
    """Return the learning rate at each of the steps wanted, which rise."""
    # assay's own warm-up is known in closed form, and what goes on underneath is planned like any other.
    made, warmup = 0, 0
    if _warms_up(scheduler):
        made, warmup, group["lr"] = scheduler.made, scheduler.steps, scheduler._targets[index]
        scheduler = scheduler.scheduler
    if every == 1 and wanted[-1] > most:
        rates = _jumped(scheduler, group, wanted)
    else:
        rates = _stepped(scheduler, group, every, wanted)
    return [rate * min(1.0, (made + step + 1) / (warmup + 1)) for step, rate in zip(wanted, rates, strict=True)]


def _warms_up(scheduler: Any) -> bool:
    return hasattr(scheduler, "batch_step") and hasattr(scheduler, "_targets")


def _stepped(scheduler: Any, group: dict[str, Any], every: int, wanted: list[int]) -> Iterator[float]:
    made = 0
    for step in wanted:
        for _ in range(step // every - made):
            scheduler.step()
        made = step // every
        yield number(group["lr"])


def _jumped(scheduler: Any, group: dict[str, Any], wanted: list[int]) -> Iterator[float]:
    if not isinstance(scheduler, _CLOSED_FORM):
        raise TypeError(f"{type(scheduler).__name__} goes step by step, and there are too many steps.")
    first = scheduler.last_epoch
    for step in wanted:
        if step:
            scheduler.step(first + step)
        yield number(group["lr"])
