"""Losses that are means over targets: binary cross entropy and focal, with targets that do not count, and weights."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.callbacks.errors import UsageError


class NamedLoss(nn.Module):
    """A loss of a task, and what its targets are; the base of those of ``make_loss`` that torch does not have.

    A subclass defines ``forward``, ``sample_losses`` and ``count_targets``, by which a runner weighs batches. See
    ``make_loss`` for the arguments.
    """

    weights: Tensor | None

    def __init__(self, task: str, *, ignore_index: int | None = None, weights: Tensor | None = None):
        super().__init__()
        self.task, self.ignore_index = task, ignore_index
        # No part of a checkpoint: they follow from what the run is given.
        self.register_buffer("weights", weights, persistent=False)

    def count_targets(self, target: Tensor) -> Tensor:
        """Return what a mean over each sample divides by, [N] float64: 0 for one in which nothing counts."""
        raise NotImplementedError

    def settle(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, their truth and which targets count.

        Returns:
            Logits [N, C, ...], at least in float32; the truth, from 0 to 1, of that shape; and what counts, bool [N, C,
            ...], or [N, 1, ...] for ``multiclass``.

        Raises:
            UsageError: the target is not of the shape that the task has.
        """
        logits = output.float() if output.dtype.itemsize < 4 else output
        logits = logits.unsqueeze(1) if logits.ndim == 1 else logits
        self._check(logits, target)
        if self.task == "multiclass" and target.is_floating_point():  # shares of classes, all of which count
            return logits, target.to(logits.dtype), torch.ones_like(target[:, :1], dtype=torch.bool)
        if self.task == "multiclass":
            return logits, self._one_hot(target, logits), self.counted(target).unsqueeze(1)
        target = target.reshape(logits.shape)
        counted = self.counted(target)
        truth = target * counted if target.is_floating_point() else target == 1
        return logits, truth.to(logits.dtype), counted

    def counted(self, target: Tensor) -> Tensor:
        """Return which targets are not ``ignore_index``."""
        return target != (-100 if self.ignore_index is None else self.ignore_index)

    def _check(self, logits: Tensor, target: Tensor) -> None:
        shape, pixels = logits.shape, logits.shape[:1] + logits.shape[2:]
        if self.task == "multiclass":
            taken = shape if target.is_floating_point() else pixels
        else:
            taken = pixels if shape[1] == 1 and target.ndim < logits.ndim else shape
        if target.shape != taken or (self.task == "binary" and shape[1] != 1):
            raise UsageError(
                f"{type(self).__name__} takes no target {list(target.shape)} for an output {list(shape)} of the task "
                f"{self.task!r}."
            )
        if self.weights is not None and self.task != "binary" and len(self.weights) != shape[1]:
            raise UsageError(f"weights must be one per class: the output has {shape[1]}, got {len(self.weights)}.")

    def _one_hot(self, target: Tensor, logits: Tensor) -> Tensor:
        # Not torch's own one_hot, which looks at the largest value.
        shape = [1, -1] + [1] * (logits.ndim - 2)
        classes = logits.new_ones(logits.shape[1]).cumsum(0).sub(1).view(shape)
        return (target.unsqueeze(1) == classes).to(logits.dtype)


class MeanLoss(NamedLoss):
    """The mean of a loss over the targets that count, each by its weight. A subclass defines ``each``."""

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the loss of each target, [N, C, ...], or [N, 1, ...] for ``multiclass``.

        Args:
            logits: [N, C, ...].
            truth: from 0 to 1, of that shape.
        """
        raise NotImplementedError

    def weigh(self, target: Tensor) -> Tensor:
        """Return the weight of each target in the mean, 0 for those that do not count.

        Args:
            target: as it comes with the batch, of any task but shares of classes.
        """
        counted = self.counted(target)
        if self.weights is None or self.task == "multilabel":
            return counted
        if self.task == "binary" and target.is_floating_point():
            return (self.weights[0] + (self.weights[1] - self.weights[0]) * target) * counted
        # Clamped, as a value that does not count may be no class.
        classes = len(self.weights) - 1
        return self.weights[target.long().clamp(0, classes)] * counted

    def count_targets(self, target: Tensor) -> Tensor:
        """Return the weights of the targets that count, [N] float64."""
        weights = self._weigh_all(target)
        return weights.reshape(len(weights), math.prod(weights.shape[1:])).sum(dim=1, dtype=torch.float64)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self._mean(output, target, 0)

    def sample_losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the mean over each sample, [N]; 0 where nothing counts."""
        return self._mean(output, target, 1)

    def _mean(self, output: Tensor, target: Tensor, first: int) -> Tensor:
        logits, truth, _ = self.settle(output, target)
        losses = self.each(logits, truth)
        if self.weights is not None and self.task == "multilabel":
            losses = losses * (1 + (_column(self.weights, losses) - 1) * truth)
        weights = self._weigh_all(target).reshape(losses.shape)
        axes = tuple(range(first, losses.ndim))
        total: Tensor = (losses * weights).sum(dim=axes)
        count = weights.sum(dim=axes).to(total.dtype)
        return total / count.masked_fill(count == 0, 1)

    def _weigh_all(self, target: Tensor) -> Tensor:
        """Return the weights as ``weigh`` does, also of shares of classes."""
        if self.task == "multiclass" and target.is_floating_point():
            if self.weights is None:
                return torch.ones_like(target[:, 0])
            return (target * _column(self.weights, target)).sum(dim=1)
        return self.weigh(target)


class BCELoss(MeanLoss):
    """Binary cross entropy; for ``multiclass`` the mean over classes, each against the rest. See ``make_loss``."""

    def __init__(
        self,
        task: str,
        *,
        ignore_index: int | None = None,
        weights: Tensor | None = None,
        label_smoothing: float = 0.0,
    ):
        super().__init__(task, ignore_index=ignore_index, weights=weights)
        self.label_smoothing = label_smoothing

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        if self.label_smoothing:
            low = self.label_smoothing / (logits.shape[1] if self.task == "multiclass" else 2)
            truth = (1 - truth) * low + truth * (1 - self.label_smoothing + low)
        losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return losses.mean(dim=1, keepdim=True) if self.task == "multiclass" else losses


class FocalLoss(MeanLoss):
    """Cross entropy times ``(1 - p) ** gamma``, where p is the probability of the truth. See ``make_loss``."""

    def __init__(
        self, task: str, *, ignore_index: int | None = None, weights: Tensor | None = None, gamma: float = 2.0
    ):
        super().__init__(task, ignore_index=ignore_index, weights=weights)
        self.gamma = gamma

    def each(self, logits: Tensor, truth: Tensor) -> Tensor:
        if self.task == "multiclass":
            log = logits.log_softmax(dim=1)
            return (-log * self._factor(log.exp()) * truth).sum(dim=1, keepdim=True)
        p = logits.sigmoid()
        right = p * truth + (1 - p) * (1 - truth)
        losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return self._factor(right) * losses

    def _factor(self, p: Tensor) -> Tensor:
        # Above 0, where the gradient of a root is infinite.
        return (1 - p).clamp(min=torch.finfo(p.dtype).tiny) ** self.gamma


def _column(weights: Tensor, like: Tensor) -> Tensor:
    """Return weights of classes [C] as [1, C, 1, ...]."""
    return weights.to(like.dtype).view(1, -1, *[1] * (like.ndim - 2))
