"""The loss of each sample of a batch, from the criterion that gives the loss of the whole batch."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

Criterion = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def sample_losses(criterion: Criterion, output: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each sample.

    A criterion with a ``reduction`` (those of ``torch.nn``) is evaluated once, unreduced, and averaged over all
    axes but the first. Any other is called sample by sample, on batches of one.

    Args:
        criterion: maps ``(output, target)`` to a loss.
        output: [N, ...].
        target: [N, ...].

    Returns:
        [N], on the device of ``output``, without a graph.
    """
    if not hasattr(criterion, "reduction"):
        losses = [criterion(output[i : i + 1], target[i : i + 1]) for i in range(len(output))]
        return torch.stack(losses).reshape(len(output))
    unreduced = copy.copy(criterion)
    unreduced.reduction = "none"
    return unreduced(output, target).reshape(len(output), -1).mean(dim=1)
