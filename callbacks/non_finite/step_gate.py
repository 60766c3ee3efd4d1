"""StepGate: holds back single steps of an optimizer, so that neither weights nor state change."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class StepGate:
    """Asks before each step of one optimizer whether it may be made, until ``remove`` is called.

    A fused optimizer of torch (``SGD``, ``Adam``, ``AdamW``, ``Adagrad``) is told on the device, by the way that a
    ``GradScaler`` tells it; nothing is read. Any other loses its gradients where the step is held back, and so skips
    every parameter; for that the answer is read, once per step. A fused SGD with momentum and dampening has its answer
    read as long as it has no momentum yet.

    An optimizer that computes gradients within its step (``LBFGS``) is not held back.

    Args:
        optimizer: as torch knows it.
        decide: called with the optimizer before each step; returns [], float32: 1 holds it back, 0 lets it pass.
    """

    def __init__(self, optimizer: Optimizer, decide: Callable[[Optimizer], Tensor]):
        self._optimizer = optimizer
        self._decide = decide
        self._told = False
        self._handles = [
            optimizer.register_step_pre_hook(self._before),
            optimizer.register_step_post_hook(self._after),
        ]

    def remove(self) -> None:
        """Let every step pass from now on."""
        for handle in self._handles:
            handle.remove()
        self._forget()

    def _before(self, optimizer: Optimizer, *_: Any) -> None:
        found = self._decide(optimizer)
        if not takes_found_inf(optimizer) or _begins_with_dampening(optimizer):
            if bool(found):
                _drop_gradients(optimizer)
            return
        _begin_momentum(optimizer)
        given = getattr(optimizer, "found_inf", None)  # a scaler's own, which the scaler takes away again
        self._told = given is None
        both = torch.maximum(given.reshape(()), found) if isinstance(given, Tensor) else found
        optimizer.found_inf = both  # type: ignore[attr-defined]

    def _after(self, *_: Any) -> None:
        self._forget()

    def _forget(self) -> None:
        if self._told and hasattr(self._optimizer, "found_inf"):
            del self._optimizer.found_inf
        self._told = False


def takes_found_inf(optimizer: Optimizer) -> bool:
    """Whether a step can be held back on the device."""
    # A state dict that was loaded may have turned the groups' own switch off.
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and getattr(optimizer, "_step_supports_amp_scaling", False)


def _begin_momentum(optimizer: Optimizer) -> None:
    """Give a fused SGD its momentum, all zeros: in a first step that is held back torch leaves it unwritten."""
    for parameter, gradient in _without_momentum(optimizer):
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(gradient)


def _begins_with_dampening(optimizer: Optimizer) -> bool:
    """Whether this is a first step that zeros for momentum would change: torch does not dampen it."""
    return any(group.get("dampening") for group in optimizer.param_groups) and bool(_without_momentum(optimizer))


def _without_momentum(optimizer: Optimizer) -> list[tuple[Tensor, Tensor]]:
    return [
        (parameter, parameter.grad)
        for group in optimizer.param_groups
        if group.get("momentum")
        for parameter in group["params"]
        if parameter.grad is not None and optimizer.state[parameter].get("momentum_buffer") is None
    ]


def _drop_gradients(optimizer: Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
