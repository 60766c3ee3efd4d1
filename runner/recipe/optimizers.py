"""Optimizers by name: those of ``torch.optim`` that step without a closure on dense tensors of any shape."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from assay.callbacks.errors import UsageError, listing

from .optimizer_names import UNFIT, find_name

# Adagrad's fused form came to GPUs later than torch 2.6.
_FUSED = ("SGD", "Adam", "AdamW")
# Options that choose how a step is computed: with one of them the choice is the user's.
_LOOPS = ("fused", "foreach", "capturable", "differentiable")


def optimizer_names() -> list[str]:
    """Return the names that ``make_optimizer`` knows."""
    found = [name for name, item in vars(torch.optim).items() if inspect.isclass(item) and _is_optimizer(item)]
    return sorted(name for name in found if name not in UNFIT)


def make_optimizer(
    name: str,
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    *,
    lr: float,
    weight_decay: float | None = None,
    momentum: float | None = None,
    **options: Any,
) -> torch.optim.Optimizer:
    """Build an optimizer.

    ``SGD``, ``Adam`` and ``AdamW`` are fused: one pass over weights, gradients and state, and a step with NaN or Inf is
    held back on the device (``NonFiniteGuard``). ``fused=False`` among the options turns that off, as sparse gradients
    need it.

    Args:
        name: as in ``torch.optim``, in upper or lower case.
        parameters: what to optimize, or groups of it as ``torch.optim`` takes them.
        lr: learning rate, of groups without one of their own.
        weight_decay: None: the optimizer's own default.
        momentum: the optimizer's ``momentum``, or the first of its ``betas``; None: its own default.
        options: any other argument of the optimizer.

    Raises:
        UsageError: the name is unknown or unfit, or the optimizer has no such argument.

    Example:
        >>> optimizer = make_optimizer("adamw", nn.Linear(2, 1).parameters(), lr=1e-3, weight_decay=0.01)
        >>> type(optimizer).__name__, optimizer.param_groups[0]["weight_decay"]
        ('AdamW', 0.01)
    """
    optimizer = _find(name)
    known = list(inspect.signature(optimizer).parameters)[1:]  # without the parameters to optimize
    arguments: dict[str, Any] = {"lr": lr, **options}
    if weight_decay is not None:
        arguments["weight_decay"] = weight_decay
    if momentum is not None:
        if "momentum" in known or "betas" not in known:
            arguments["momentum"] = momentum
        else:
            # Adam's first beta is its momentum; the others keep their value.
            default = inspect.signature(optimizer).parameters["betas"].default
            arguments["betas"] = (momentum, *options.get("betas", default)[1:])
    for argument in arguments:
        if argument not in known:
            raise UsageError(f"optimizer {optimizer.__name__} takes no {argument!r}; it takes {listing(known)}.")
    given: list[Any] = list(parameters)
    if _runs_fused(optimizer, _all_in(given), options):
        arguments["fused"] = True
    try:
        return optimizer(given, **arguments)
    except (TypeError, ValueError) as error:
        raise UsageError(f"optimizer {optimizer.__name__} refused {arguments}: {error}") from error


def _all_in(parameters: list[Any]) -> list[nn.Parameter]:
    groups = [part["params"] if isinstance(part, Mapping) else [part] for part in parameters]
    return [parameter for group in groups for parameter in group]


def _find(name: str) -> type[torch.optim.Optimizer]:
    found: type[torch.optim.Optimizer] = getattr(torch.optim, find_name(name, optimizer_names()))
    return found


def _runs_fused(optimizer: type, parameters: list[nn.Parameter], options: dict[str, Any]) -> bool:
    if optimizer.__name__ not in _FUSED or not options.keys().isdisjoint(_LOOPS):
        return False
    # torch refuses the fused form for other types, and for most other devices.
    return all(
        parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")
        for parameter in parameters
        if isinstance(parameter, nn.Parameter)
    )


def _is_optimizer(item: type) -> bool:
    return issubclass(item, torch.optim.Optimizer) and item is not torch.optim.Optimizer
