"""Taking the gradients of an optimizer's parameters when it steps."""

from collections.abc import Mapping
from typing import Any

import torch
from catalyst import dl
from torch import nn

from .host_copy import HostCopy
from .measures.gradient_stats import GradientStats
from .unwrapped import by_name


class GradientWatch:
    """The hook of one optimizer, with the measure of the parameters that it trains.

    Args:
        parameters: by name, at least one.
        every_n_steps: observe the first of so many steps.
        suspects: names of the parameters whose NaN and infinite values are counted; those found broken join them.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], every_n_steps: int, suspects: set[str]):
        self.parameters = parameters
        self.every_n_steps = every_n_steps
        self.suspects = suspects
        self.step = 0
        self.broken: HostCopy | None = None
        sizes = [parameter.numel() for parameter in parameters.values()]
        self.measure = GradientStats(sizes, next(iter(parameters.values())).device)

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        self.step += 1
        if (self.step - 1) % self.every_n_steps:
            return
        if self.broken is not None:  # of the observation before, so it has reached the host by now
            counts = self.broken.read().tolist()
            self.suspects.update(name for name, count in zip(self.parameters, counts, strict=True) if count)
        suspects = {index for index, name in enumerate(self.parameters) if name in self.suspects}
        # A fused optimizer unscales within its step, and says so.
        scale = getattr(optimizer, "grad_scale", None)
        gradients = [parameter.grad for parameter in self.parameters.values()]
        self.measure.update(gradients, suspects=suspects, scale=scale)
        self.broken = HostCopy(self.measure.state["broken_steps"])


def trained_parameters(runner: dl.IRunner) -> dict[str, nn.Parameter]:
    """Return the parameters by name, in the order of the model: each once, without frozen and empty ones."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for key, model in by_name(runner.model).items():
        for name, parameter in runner.engine.unwrap_model(model).named_parameters():
            if parameter.requires_grad and parameter.numel():
                full = f"{key}.{name}" if key else name
                found.setdefault(id(parameter), (full.replace("_orig_mod.", ""), parameter))
    return dict(found.values())
