"""The groups of parameters of all optimizers, with their settings."""

from collections.abc import Mapping
from typing import Any

from catalyst import dl
from torch import Tensor

from ....support.unwrap import by_name, named_parameters, raw_optimizers
from ...probe.settings_probe import GroupProbe


def observe_groups(runner: dl.IRunner) -> tuple[GroupProbe, ...]:
    """Return the groups of all optimizers, in their order; what a model does not have has no name."""
    names = {id(parameter): name for name, parameter in named_parameters(runner).items()}
    groups = [group for optimizer in raw_optimizers(runner.optimizer).values() for group in optimizer.param_groups]
    rates = planned_rates(runner)
    return tuple(_observe(group, rates[id(group)], names) for group in groups)


def _observe(group: Mapping[str, Any], rate: float, names: Mapping[int, str]) -> GroupProbe:
    betas = [number(beta) for beta in group.get("betas") or ()]
    return GroupProbe(
        lr=rate,
        weight_decay=number(group.get("weight_decay")),
        momentum=betas[0] if betas else number(group.get("momentum")),
        beta2=betas[1] if len(betas) > 1 else None,
        parameters=tuple(names[id(one)] for one in group["params"] if id(one) in names),
        maximize=group.get("maximize") is True,
    )


def planned_rates(runner: dl.IRunner) -> dict[int, float]:
    """Return the learning rate that each group was given, by its id; a schedule makes more or less of it.

    Of a schedule that goes up and down, it is the top.
    """
    optimizers = raw_optimizers(runner.optimizer).values()
    rates = {id(group): _given_rate(group) for optimizer in optimizers for group in optimizer.param_groups}
    for scheduler in map(innermost, by_name(runner.scheduler).values()):
        # torch's cyclic schedule has the tops itself, and leaves the bottoms with the groups.
        tops = getattr(scheduler, "max_lrs", None)
        if tops:
            groups = raw_optimizers(scheduler.optimizer)[""].param_groups
            rates |= {id(group): number(top) for group, top in zip(groups, tops, strict=False)}
    return rates


def _given_rate(group: Mapping[str, Any]) -> float:
    return number(group.get("max_lr", group.get("initial_lr", group.get("lr"))))


def innermost(scheduler: Any) -> Any:
    """Return the scheduler within assay's own warm-up."""
    inner = getattr(scheduler, "scheduler", None)
    return scheduler if inner is None else innermost(inner)


def number(value: Any) -> float:
    """Return a setting as a number, 0 where there is none; one on a device is read."""
    return float(value.detach()) if isinstance(value, Tensor) else float(value or 0.0)
