"""The gradient norm at an optimizer's steps, and how often gradients are clipped and steps skipped."""

from collections.abc import Iterable
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from .measure import Reductions


@stored_as("OptimizerSteps")
class OptimizerSteps:
    """Counts the steps of one epoch and adds up their gradient norms, without reading the device.

    Args:
        device: where the norms are.
        max_norm: the norm that gradients are clipped to; None: they are not.
        scale: [], the loss scale before the first step; None: the loss is not scaled.
    """

    # Gradients are those of all ranks together: a sum over ranks divides out in each mean, and skips and the loss scale
    # are the same everywhere, so that a sum would multiply them.
    reductions: ClassVar[Reductions] = {
        "norm": "sum",
        "steps": "sum",
        "clipped": "sum",
        "skipped": "max",
        "scale": "max",
    }

    def __init__(
        self, device: torch.device | str = "cpu", *, max_norm: float | None = None, scale: Tensor | None = None
    ):
        self.max_norm = max_norm
        self.scaled = scale is not None
        self.state = {name: torch.zeros((), dtype=torch.float64, device=device) for name in self.reductions}
        if scale is not None:
            self.state["scale"] += scale

    def update(self, norm: Tensor, skipped: Tensor | None = None) -> None:
        """Add one step.

        Args:
            norm: [], of all gradients together, before clipping where ``max_norm`` is given.
            skipped: [], not 0 where the optimizer skips this step, which then does not count; None: it does not skip.
        """
        norm = norm.detach().to(torch.float64)
        # Weights, not a condition: the host does not know whether the step was skipped.
        made = torch.ones_like(norm) if skipped is None else (skipped.reshape(()) == 0).to(torch.float64)
        # Chosen, not multiplied: NaN * 0 is NaN, and the norm of a skipped step is often NaN.
        self.state["norm"] += torch.where(made > 0, norm, 0.0)
        self.state["steps"] += made
        if self.max_norm is not None:
            self.state["clipped"] += made * (norm > self.max_norm)

    def update_scale(self, scale: Tensor) -> None:
        """Compare the loss scale with that of the batch before: it falls when, and only when, a step is skipped.

        Args:
            scale: [], the loss scale after the batch.
        """
        # GradScaler shows that it has skipped a step by its scale alone, unless the host reads the device.
        self.state["skipped"] += scale < self.state["scale"]
        self.state["scale"] = scale.detach().to(torch.float64)

    def compute(self, state: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return the values by name, on the device, of the reduced ``state`` where one is given."""
        state = state or self.state
        values = {"grad_norm": state["norm"] / state["steps"]}
        if self.max_norm is not None:
            values["clipped_fraction"] = state["clipped"] / state["steps"]
        if self.scaled:
            values |= {"loss_scale": state["scale"], "skipped_steps": state["skipped"]}
        return values


def total_norm(gradients: Iterable[Tensor]) -> Tensor:
    """Return the Euclidean norm of all gradients together.

    Args:
        gradients: at least one, of any shapes; a sparse one is coalesced, which waits for a GPU.

    Returns:
        [], float32, or float64 where a gradient is: the norm of a float16 tensor overflows in its own type.
    """
    dense = [gradient.coalesce().values() if gradient.is_sparse else gradient for gradient in gradients]
    dtype = reduce(torch.promote_types, (gradient.dtype for gradient in dense), torch.float32)
    # One call for all gradients, instead of one per parameter.
    norms = torch._foreach_norm(dense, 2, dtype=dtype)
    together: Tensor = torch.linalg.vector_norm(
        torch.stack([norm.to(norms[0].device, non_blocking=True) for norm in norms])
    )
    return together
