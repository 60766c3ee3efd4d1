"""Learning rate schedules by name, each with an optional linear warm-up."""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.optim import lr_scheduler

from assay.callbacks.errors import UsageError, unknown_name

from ..choices import SCHEDULERS


# Not torch's ``SequentialLR``, which cannot hold ``ReduceLROnPlateau``.
class WarmUp:
    """Raises the learning rate linearly over the first steps of another schedule.

    Step ``n``, from 0, is made at ``(n + 1) / (steps + 1)`` of the other schedule's learning rate.

    Args:
        scheduler: the schedule that goes on underneath.
        steps: optimizer steps until the full learning rate is reached, at least 1.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> schedule = WarmUp(lr_scheduler.StepLR(optimizer, 2, gamma=0.5), steps=3)
        >>> for step in range(4):
        ...     print(f"{schedule.get_last_lr()[0]:.3f}")
        ...     optimizer.step()
        ...     schedule.batch_step()
        0.025
        0.050
        0.075
        0.100
    """

    def __init__(self, scheduler: Any, steps: int):
        self.scheduler = scheduler
        self.optimizer = scheduler.optimizer
        self.steps = steps
        self.made = 0
        self._apply()

    def batch_step(self) -> None:
        """Count one optimizer step."""
        if self.made < self.steps:
            self._restore()
            self.made += 1
            self._apply()

    def step(self, *metric: float) -> None:
        """Step the schedule underneath."""
        # torch's schedulers go on from the rate that the optimizer has, so they must find the full one.
        self._restore()
        self.scheduler.step(*metric)
        self._apply()

    def get_last_lr(self) -> list[float]:
        """Return the learning rate of each group, as it is now."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both schedules."""
        return {"made": self.made, "targets": self._targets, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned; the optimizer's own state is restored elsewhere."""
        self.made, self._targets = state["made"], state["targets"]
        self._restore()
        self.scheduler.load_state_dict(state["scheduler"])
        self._apply()

    def _restore(self) -> None:
        for group, target in zip(self.optimizer.param_groups, self._targets, strict=True):
            group["lr"] = target

    def _apply(self) -> None:
        self._targets = [float(group["lr"]) for group in self.optimizer.param_groups]
        for group, target in zip(self.optimizer.param_groups, self._targets, strict=True):
            group["lr"] = target * min(1.0, (self.made + 1) / (self.steps + 1))


class _ClosedForm(lr_scheduler.LambdaLR):
    """torch's own, but a loaded state gives the rate of this plan: a resumed run may be made longer."""

    # The state of the optimizer, which is loaded too, holds the rate of the plan before.
    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        for group, base, factor in zip(self.optimizer.param_groups, self.base_lrs, self.lr_lambdas, strict=True):
            group["lr"] = base * factor(self.last_epoch)


class _OneCycle(lr_scheduler.OneCycleLR):
    """torch's own, but its plan follows from its arguments alone, so that a resumed run may be made longer."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        return {name: value for name, value in state.items() if name not in ("total_steps", "_schedule_phases")}


def steps_by(name: str) -> str:
    """Return whether a schedule steps by ``batch`` (optimizer step) or by ``epoch``.

    Example:
        >>> steps_by("one-cycle"), steps_by("plateau")
        ('batch', 'epoch')
    """
    # The others are defined by epochs: milestones, and a metric that is known at the end of one.
    return "batch" if _canonical(name) in ("cosine", "one-cycle", "cyclic") else "epoch"


def make_scheduler(
    name: str,
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
    lr_min: float = 0.0,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
    cycle_epochs: float = 4.0,
    plateau_patience: int = 3,
    minimize: bool = True,
    lr: float | None = None,
    **options: Any,
) -> Any:
    """Build a schedule.

    Args:
        name: one of ``SCHEDULERS``; ``steps_by`` returns when to step it.
        optimizer: whose learning rate it sets; that rate is the schedule's largest.
        epochs: length of the run.
        steps_per_epoch: optimizer steps per epoch.
        warmup_epochs: length of a linear warm-up; of ``one-cycle``, of its rising part.
        lr_min: ``cosine``, ``cyclic``, ``plateau``: the smallest learning rate.
        milestones: ``multi-step``: epochs after which the learning rate is multiplied by ``gamma``.
        gamma: ``multi-step`` and ``plateau``: the factor.
        cycle_epochs: ``cyclic``: length of a cycle.
        plateau_patience: ``plateau``: epochs without a better metric before the learning rate drops.
        minimize: ``plateau``: whether a smaller metric is better.
        lr: the learning rate that ``lr_min`` goes with: a group of parameters with another one has an ``lr_min``
            in proportion, so that the ratios of the groups stay. None: ``lr_min`` is that of every group.
        options: any other argument of torch's scheduler, for ``one-cycle``, ``cyclic`` and ``plateau``; with
            ``cycle_momentum=True`` the first two move the momentum too.

    Returns:
        The scheduler; None for ``none`` without a warm-up.

    Raises:
        UsageError: the name is unknown, or an argument does not fit.

    Example:
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> schedule = make_scheduler("multi-step", optimizer, epochs=4, steps_per_epoch=10, milestones=[2, 3])
        >>> for epoch in range(4):
        ...     print(f"{schedule.get_last_lr()[0]:.3g}")
        ...     optimizer.step()
        ...     schedule.step()
        0.1
        0.1
        0.01
        0.001
    """
    name = _canonical(name)
    steps, warmup_steps = epochs * steps_per_epoch, round(warmup_epochs * steps_per_epoch)
    if warmup_steps >= steps:
        raise UsageError(f"warmup_epochs must be less than epochs ({epochs}), got {warmup_epochs}.")
    if name == "none" and not warmup_steps and not options:
        return None
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    low = [lr_min if lr is None else lr_min * one / lr for one in rates]
    make: Callable[..., Any] = _ClosedForm
    # Of "none" with a warm-up: a constant rate for the warm-up to rise to.
    arguments: dict[str, Any] = {"lr_lambda": lambda epoch: 1.0}
    if name == "cosine":
        shares = [of / one for of, one in zip(low, rates, strict=True)]
        arguments = {"lr_lambda": [partial(_cosine, steps=steps, low=share) for share in shares]}
    elif name == "multi-step":
        arguments = {"lr_lambda": partial(_multi_step, milestones=sorted(milestones), gamma=gamma)}
    elif name == "one-cycle":
        make = _OneCycle
        # One step more than is made: torch computes the rate of a step after the last one too.
        arguments = {"max_lr": rates, "total_steps": steps + 1, "cycle_momentum": False}
        if warmup_steps:
            arguments["pct_start"], warmup_steps = (warmup_steps + 1) / (steps + 1), 0
    elif name == "cyclic":
        make = lr_scheduler.CyclicLR
        half = max(1, round(cycle_epochs * steps_per_epoch / 2))
        arguments = {"base_lr": low, "max_lr": rates, "step_size_up": half, "cycle_momentum": False}
    elif name == "plateau":
        make = lr_scheduler.ReduceLROnPlateau
        mode = "min" if minimize else "max"
        arguments = {"mode": mode, "factor": gamma, "patience": plateau_patience, "min_lr": low}
        if lr is not None:
            arguments["eps"] = 0.0  # torch's leaves small rates as they are, which would change their ratios
    # Options of the user come last, and may change what is set here.
    try:
        scheduler = make(optimizer, **{**arguments, **options})
    except (TypeError, ValueError) as error:
        raise UsageError(f"scheduler {name!r} refused its arguments: {error}.") from error
    return WarmUp(scheduler, warmup_steps) if warmup_steps else scheduler


def _canonical(name: str) -> str:
    canonical = name.replace("_", "-").lower()
    if canonical not in SCHEDULERS:
        raise unknown_name("scheduler", name, SCHEDULERS)
    return canonical


# In closed form a factor depends on nothing but the count of steps, so a resumed run may be made longer.


def _cosine(step: int, *, steps: int, low: float) -> float:
    return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps)))


def _multi_step(epoch: int, *, milestones: Sequence[int], gamma: float) -> float:
    return float(gamma ** bisect_right(milestones, epoch))
