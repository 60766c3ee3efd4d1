"""Taking the gradients and the movement of an optimizer's parameters when it steps."""

from collections.abc import Mapping
from typing import Any

import torch
from catalyst import dl
from torch import Tensor, nn
from torch.optim import Optimizer

from .host_copy import HostCopy
from .measures.gradient_stats import GradientStats
from .unwrapped import by_name


class GradientWatch:
    """The hook of one optimizer, with the measure of the parameters that it trains.

    Args:
        parameters: by name, at least one.
        every_n_steps: observe the first of so many steps.
        suspects: names of the parameters whose NaN and infinite values are counted; those found broken join them.
        update_ratio: whether to copy the weights before an observed step, for ``compare``.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        every_n_steps: int,
        suspects: set[str],
        *,
        update_ratio: bool = False,
    ):
        self.parameters = parameters
        self.every_n_steps = every_n_steps
        self.suspects = suspects
        self.update_ratio = update_ratio
        self.step = 0
        self.observing = False
        self.broken: HostCopy | None = None
        self.before: list[Tensor] = []
        sizes = [parameter.numel() for parameter in parameters.values()]
        self.measure = GradientStats(sizes, next(iter(parameters.values())).device)

    def __call__(self, optimizer: Optimizer | None = None, *_: Any) -> None:
        self.step += 1
        self.observing = (self.step - 1) % self.every_n_steps == 0
        if not self.observing:
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
        if self.update_ratio:
            self._keep_weights()

    def compare(self, *_: Any) -> None:
        """Measure how far the step moved the weights, behind an observed step."""
        if self.observing:
            self.measure.update_ratio(self.before, [weight.detach() for weight in self.parameters.values()])
            self.observing = False

    def _keep_weights(self) -> None:
        weights = [weight.detach() for weight in self.parameters.values()]
        if self.before:
            torch._foreach_copy_(self.before, weights)
        else:
            self.before = [weight.clone() for weight in weights]


class ClippedNorm:
    """The total norm of the observed steps before and after clipping, where the runner clips by norm.

    It is called before an optimizer's step, when the runner has clipped. The state is float64 [3] on the device:
    the sums of both norms over the steps where they are finite, and the number of those.

    Args:
        runner: keeps the norm before clipping in ``grad_norm_`` and has the largest one in ``clip_grad_norm``.
        watch: knows which steps are observed.
    """

    reductions = {"sums": "sum"}

    def __init__(self, runner: dl.IRunner, watch: GradientWatch):
        self.runner = runner
        self.watch = watch
        self.state = {"sums": torch.zeros(3, dtype=torch.float64, device=runner.engine.device)}

    def __call__(self, *_: Any) -> None:
        if self.watch.observing:
            norm = self.runner.grad_norm_.detach().to(torch.float64)
            row = torch.stack([norm, norm.clamp(max=self.runner.clip_grad_norm), torch.ones_like(norm)])
            self.state["sums"] += torch.where(norm.isfinite(), row, 0.0)


def trained_parameters(runner: dl.IRunner) -> dict[str, nn.Parameter]:
    """Return the parameters by name, in the order of the model: each once, without frozen and empty ones."""
    found: dict[int, tuple[str, nn.Parameter]] = {}
    for key, model in by_name(runner.model).items():
        for name, parameter in runner.engine.unwrap_model(model).named_parameters():
            if parameter.requires_grad and parameter.numel():
                full = f"{key}.{name}" if key else name
                found.setdefault(id(parameter), (full.replace("_orig_mod.", ""), parameter))
    return dict(found.values())
