"""The loss of each sample of a batch, from the criterion that gives the loss of the whole batch."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from catalyst import dl
from torch import Tensor

from .errors import UsageError

Criterion = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def sample_losses(criterion: Criterion, output: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each sample.

    A criterion with a ``reduction`` (those of ``torch.nn``) is evaluated once, unreduced, and averaged over all
    axes but the first. Any other, and one that sums up all the same, is called sample by sample, on batches of one.

    Args:
        criterion: maps ``(output, target)`` to a loss.
        output: [N, ...].
        target: [N, ...].

    Returns:
        [N], on the device of ``output``, without a graph.

    Raises:
        UsageError: what the criterion gives for one sample is not one number.
    """
    if hasattr(criterion, "reduction"):
        unreduced = copy.copy(criterion)
        unreduced.reduction = "none"
        losses = unreduced(output, target)
        if isinstance(losses, Tensor) and losses.ndim and len(losses) == len(output):
            return losses.reshape(len(output), -1).mean(dim=1)
    return _one_by_one(criterion, output, target)


def _one_by_one(criterion: Criterion, output: Tensor, target: Tensor) -> Tensor:
    losses = [criterion(output[i : i + 1], target[i : i + 1]) for i in range(len(output))]
    for loss in losses:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(
                f"{type(criterion).__name__} must give one number for one sample, or have reduction='none', got {got}."
            )
    return torch.stack([loss.reshape(()) for loss in losses]) if losses else output.new_zeros(0)


def losses_of_batch(runner: dl.IRunner, batch: Mapping[str, Any], output: Any, target: Any) -> Tensor | None:
    """Return the loss of each sample of a batch, [N]: by the runner's own rule, or by its criterion.

    Args:
        runner: any Catalyst runner.
        batch: with the outputs in it, for a runner with ``sample_losses``.
        output: of the batch, for the criterion.
        target: of the batch, for the criterion.

    Returns:
        None where the runner has no criterion, or several by name and no rule, or the output is no tensor.
    """
    if runner.criterion is None or not isinstance(output, Tensor):
        return None
    if hasattr(runner, "sample_losses"):
        losses: Tensor = runner.sample_losses(batch)
        return losses
    return sample_losses(runner.criterion, output, target) if callable(runner.criterion) else None
