"""The settings of an optimizer's parameter groups, each group under a name of its own."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ..errors import UsageError


def group_settings(name: str, optimizer: Optimizer) -> dict[str, float | Tensor]:
    """Return the settings of an optimizer's groups, as ``lr/GROUP``, ``momentum/GROUP`` and ``weight_decay/GROUP``.

    What a group lacks is left out. A tensor is cloned, as schedulers change it in place.

    Args:
        name: of the optimizer among several; empty for the only one.
        optimizer: as torch knows it.
    """
    settings = {}
    for label, group in _groups(name, optimizer):
        # The first of Adam's betas is what its momentum is.
        momentum = group.get("momentum", group.get("betas", (None,))[0])
        told = {"lr": group.get("lr"), "momentum": momentum, "weight_decay": group.get("weight_decay")}
        for kind, value in told.items():
            if value is not None:
                settings[f"{kind}/{label}"] = value.detach().clone() if isinstance(value, Tensor) else float(value)
    return settings


def check_groups(optimizers: Mapping[str, Optimizer]) -> None:
    """Raise a ``UsageError`` where two groups would share a name."""
    labels = [label for name, optimizer in optimizers.items() for label, _ in _groups(name, optimizer)]
    if len(set(labels)) != len(labels):
        raise UsageError(f"the parameter groups of the optimizer must have different names, got {labels}.")


def _groups(name: str, optimizer: Optimizer) -> list[tuple[str, dict[str, Any]]]:
    prefix = f"{name}-" if name else ""
    return [(f"{prefix}{group.get('name', i)}", group) for i, group in enumerate(optimizer.param_groups)]
