"""Names and settings of the parameter groups of an optimizer."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from ..errors import UsageError


def group_settings(name: str, optimizer: Optimizer) -> dict[str, float | Tensor]:
    """Return the settings of an optimizer's groups, as ``lr/GROUP``, ``momentum/GROUP`` and ``weight_decay/GROUP``.

    A setting that a group lacks is left out.

    Args:
        name: name of the optimizer among several; empty for the only one.
        optimizer: the optimizer itself, without any wrapper.
    """
    settings = {}
    for label, group in _named_groups(name, optimizer):
        # The first of Adam's betas plays the part of momentum.
        momentum = group.get("momentum", group.get("betas", (None,))[0])
        known = {"lr": group.get("lr"), "momentum": momentum, "weight_decay": group.get("weight_decay")}
        for kind, value in known.items():
            if value is not None:
                # Cloned, as schedulers change a tensor in place.
                settings[f"{kind}/{label}"] = value.detach().clone() if isinstance(value, Tensor) else float(value)
    return settings


def check_groups(optimizers: Mapping[str, Optimizer]) -> None:
    """Raise a ``UsageError`` if two groups have the same name."""
    labels = [label for name, optimizer in optimizers.items() for label, _ in _named_groups(name, optimizer)]
    if len(set(labels)) != len(labels):
        raise UsageError(f"the parameter groups of the optimizer must have different names, got {labels}.")


def _named_groups(name: str, optimizer: Optimizer) -> list[tuple[str, dict[str, Any]]]:
    prefix = f"{name}-" if name else ""
    return [(f"{prefix}{group.get('name', i)}", group) for i, group in enumerate(optimizer.param_groups)]
