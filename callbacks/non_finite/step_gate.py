"""StepGate: holds back single steps of an optimizer, so that neither its parameters nor its state change."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class StepGate:
    """Asks before each step of one optimizer whether to make it, until ``remove`` is called.

    A fused optimizer of torch (``SGD``, ``Adam``, ``AdamW``, ``Adagrad``) gets the answer on the device, through the
    attribute that a ``GradScaler`` uses; nothing is read. Any other optimizer has its gradients removed, so that it
    skips every parameter; this takes one read per step. So does a fused SGD with momentum and dampening as long as it
    has no momentum yet.

    An optimizer that computes gradients within its step (``LBFGS``) is not held back.

    Args:
        optimizer: the optimizer itself, without any wrapper.
        decide: called with the optimizer before each step; returns [], float32: 1 holds the step back, 0 lets it pass.
    """

    def __init__(self, optimizer: Optimizer, decide: Callable[[Optimizer], Tensor]):
        self._optimizer = optimizer
        self._decide = decide
        self._has_set_flag = False
        self._handles = [
            optimizer.register_step_pre_hook(self._before_step),
            optimizer.register_step_post_hook(self._after_step),
        ]

    def remove(self) -> None:
        """Let every step pass from now on."""
        for handle in self._handles:
            handle.remove()
        self._remove_flag()

    def _before_step(self, optimizer: Optimizer, *_: Any) -> None:
        found = self._decide(optimizer)
        if not takes_found_inf(optimizer) or _begins_with_dampening(optimizer):
            if bool(found):
                _drop_gradients(optimizer)
            return
        _begin_momentum(optimizer)
        # A scaler may have set the flag for this step; then it removes the flag itself.
        given = getattr(optimizer, "found_inf", None)
        self._has_set_flag = given is None
        both = torch.maximum(given.reshape(()), found) if isinstance(given, Tensor) else found
        optimizer.found_inf = both  # type: ignore[attr-defined]

    def _after_step(self, *_: Any) -> None:
        self._remove_flag()

    def _remove_flag(self) -> None:
        # Left behind, it would hold back steps that nobody asked about.
        if self._has_set_flag and hasattr(self._optimizer, "found_inf"):
            del self._optimizer.found_inf
        self._has_set_flag = False


def takes_found_inf(optimizer: Optimizer) -> bool:
    """Whether the steps of an optimizer can be held back on the device."""
    # Asked of each group: loading a state dict may have switched ``fused`` off.
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and getattr(optimizer, "_step_supports_amp_scaling", False)


def _begin_momentum(optimizer: Optimizer) -> None:
    """Give a fused SGD its momentum buffers, all zeros."""
    # torch makes them in the first step, and leaves them uninitialized if that step is held back.
    for parameter, gradient in _parameters_without_momentum(optimizer):
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(gradient)


def _begins_with_dampening(optimizer: Optimizer) -> bool:
    """Whether this is the first step of an SGD with momentum and dampening."""
    # torch does not dampen the first gradient, so momentum buffers of zeros would change the step.
    return any(group.get("dampening") for group in optimizer.param_groups) and bool(
        _parameters_without_momentum(optimizer)
    )


def _parameters_without_momentum(optimizer: Optimizer) -> list[tuple[Tensor, Tensor]]:
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
