"""The loss of each sample of a batch, from the criterion that gives the loss of the whole batch."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from catalyst import dl
from torch import Tensor, nn

from .errors import UsageError
from .target_mean import TargetMean, class_numbers, target_mean
from .undone import undone

Criterion = Callable[[Tensor, Tensor], Tensor]

NO_SCORE = -math.inf
"""What stands for the score of a sample, or of a batch, of which nothing counts: it is neither good nor bad."""


@torch.no_grad()
def sample_losses(criterion: Criterion, output: Tensor, target: Any, *, uncounted: float = math.nan) -> Tensor:
    """Return the loss of each sample: what the criterion gives for it alone.

    A loss of torch is evaluated once, unreduced, and then reduced over all axes but the first: to the sum, or to the
    mean over the targets that count, by which class weights cancel where a sample has one. Any other criterion is
    called sample by sample, on batches of one, unless it has a method ``sample_losses``, which is asked. What it
    changes or draws by that is taken back.

    Args:
        criterion: maps ``(output, target)`` to a loss.
        output: [N, ...].
        target: [N, ...], or a dict or list of such.
        uncounted: what a sample has of which no target counts, as all are ``ignore_index``.

    Returns:
        [N], on the device of ``output``, without a graph.

    Raises:
        UsageError: what the criterion gives for one sample is not one number.
    """
    if hasattr(criterion, "sample_losses"):
        own: Tensor = criterion.sample_losses(output, target)
        return own
    mean = target_mean(criterion)
    if mean is not None and output.ndim > 1 and len(output):
        return _over_targets(mean, output, target, uncounted)
    if _is_torchs_own(criterion):
        unreduced: Any = copy.copy(criterion)
        unreduced.reduction = "none"
        losses = unreduced(output, target)
        if isinstance(losses, Tensor) and losses.ndim and len(losses) == len(output):
            rows = losses.reshape(len(output), -1)
            return rows.mean(dim=1) if getattr(criterion, "reduction", "") == "mean" else rows.sum(dim=1)
    return _one_by_one(criterion, output, target)


def _over_targets(mean: TargetMean, output: Tensor, target: Tensor, uncounted: float) -> Tensor:
    target = class_numbers(target)
    losses = mean.each(output, target)
    if losses.ndim == 1 and mean.weight is None:
        return losses if target.is_floating_point() else losses.masked_fill(target == mean.ignore_index, uncounted)
    sums, counts = losses.reshape(len(losses), -1).sum(dim=1), mean.counts(target)
    return (sums if mean.adds_up else sums / counts).masked_fill(counts == 0, uncounted)


def _is_torchs_own(criterion: Any) -> bool:
    """Whether a criterion is a loss of ``torch.nn``, of which all that is unreduced stands for itself."""
    if not isinstance(criterion, nn.Module) or not hasattr(criterion, "reduction"):
        return False
    return bool(type(criterion).forward.__module__ == "torch.nn.modules.loss")


def _one_by_one(criterion: Criterion, output: Tensor, target: Any) -> Tensor:
    size = len(output)
    with undone(criterion, output.device):
        losses = [criterion(output[i : i + 1], sample_of(target, i, size)) for i in range(size)]
    return stacked(losses, type(criterion).__name__) if losses else output.new_zeros(0)


def stacked(losses: Sequence[Any], name: str) -> Tensor:
    """Return the losses of samples, [N]; raise where one of them is not one number."""
    for loss in losses:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(f"{name} must give one number for one sample, or have reduction='none', got {got}.")
    return torch.stack([loss.reshape(()) for loss in losses])


def sample_of(part: Any, index: int, size: int) -> Any:
    """Return a batch of one sample out of one of ``size``, or out of a part of it; what is of no sample stays."""
    if isinstance(part, Mapping):
        return {name: sample_of(inner, index, size) for name, inner in part.items()}
    has_samples = isinstance(part, list | tuple) or (isinstance(part, Tensor | np.ndarray) and part.ndim > 0)
    if has_samples and len(part) == size:
        return part[index : index + 1]
    return [sample_of(inner, index, size) for inner in part] if isinstance(part, list | tuple) else part


def losses_of_batch(runner: dl.IRunner, batch: Mapping[str, Any], output: Any, target: Any) -> Tensor | None:
    """Return the loss of each sample of a batch, [N]: by the runner's own rule, or by its criterion.

    A sample of which nothing counts has ``NO_SCORE``.

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
    if not callable(runner.criterion):
        return None
    return sample_losses(runner.criterion, output, target, uncounted=NO_SCORE)
