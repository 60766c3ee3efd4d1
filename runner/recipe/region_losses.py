"""Losses that are ratios of regions: Dice, Jaccard and Lovasz, with targets that do not count, and weights."""

import torch
import torch.nn.functional as F
from torch import Tensor

from assay.callbacks.errors import UsageError

from .mean_losses import NamedLoss

_SMALLEST = 1e-7  # divisor, where nothing is there and nothing is found


class RegionLoss(NamedLoss):
    """A ratio of regions, the mean over classes or labels. A subclass defines ``of_classes``."""

    def of_classes(self, logits: Tensor, truth: Tensor, counted: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
        """Return the loss of each class and its share in their mean, [C] for a whole batch, or [N, C].

        Args:
            logits: [N, C, ...].
            truth: from 0 to 1, of that shape; 0 where nothing counts.
            counted: see ``settle``.
            whole: whether the batch is one picture.
        """
        raise NotImplementedError

    def count_targets(self, target: Tensor) -> Tensor:
        """Return 1 for each sample in which something counts, [N] float64."""
        return self.counted(target).reshape(len(target), -1).any(dim=1).double()

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self._mean(output, target, whole=True)

    def sample_losses(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample as a picture of its own, [N]."""
        return self._mean(output, target, whole=False)

    def _mean(self, output: Tensor, target: Tensor, *, whole: bool) -> Tensor:
        logits, truth, counted = self.settle(output, target)
        losses, shares = self.of_classes(logits, truth * counted, counted, whole=whole)
        if self.weights is not None and self.task != "binary":
            shares = shares * self.weights.to(losses.dtype)
        total = shares.sum(dim=-1)
        return (losses * shares).sum(dim=-1) / total.masked_fill(total == 0, 1)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the probability of each class or label, of logits [N, C, ...]."""
        return logits.log_softmax(dim=1).exp() if self.task == "multiclass" else F.logsigmoid(logits).exp()


class DiceLoss(RegionLoss):
    """One less the Dice coefficient of probabilities and truth. See ``make_loss``."""

    def of_classes(self, logits: Tensor, truth: Tensor, counted: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
        both, sums, present = self._sums(logits, truth, counted, whole)
        return 1 - 2 * both / sums.clamp(min=_SMALLEST), present

    def _sums(self, logits: Tensor, truth: Tensor, counted: Tensor, whole: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is in both, the sum of both, and whether a class occurs, of each class."""
        p = self.probabilities(logits) * counted
        axes = [axis for axis in range(p.ndim) if axis > 1 or (axis == 0 and whole)]
        if not axes:  # single numbers of single samples
            return p * truth, p + truth, (truth > 0).to(p.dtype)
        return (p * truth).sum(dim=axes), (p + truth).sum(dim=axes), (truth.sum(dim=axes) > 0).to(p.dtype)


class JaccardLoss(DiceLoss):
    """One less the Jaccard index of probabilities and truth. See ``make_loss``."""

    def of_classes(self, logits: Tensor, truth: Tensor, counted: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
        both, sums, present = self._sums(logits, truth, counted, whole)
        return 1 - both / (sums - both).clamp(min=_SMALLEST), present


class LovaszLoss(RegionLoss):
    """The Lovasz extension of the Jaccard loss. See ``make_loss``."""

    def of_classes(self, logits: Tensor, truth: Tensor, counted: Tensor, *, whole: bool) -> tuple[Tensor, Tensor]:
        if self.task == "multiclass":
            errors = (truth - self.probabilities(logits)).abs()
        else:
            errors = F.relu(1 - logits * (2 * truth - 1))
        # Last in falling order, where they change nothing: leaving them out by a mask would make the step wait.
        errors = _rows(errors.masked_fill(~counted, 0), whole)
        truth, counted = _rows(truth, whole), _rows(counted.expand_as(truth), whole)
        _, order = errors.detach().masked_fill(~counted, -1).sort(dim=-1, descending=True)
        steps = _jaccard_steps(truth.gather(-1, order))
        losses = (errors.gather(-1, order) * steps).sum(dim=-1)
        occurs = truth.sum(dim=-1) > 0 if self.task == "multiclass" else torch.ones_like(losses)
        return losses, occurs.to(losses.dtype)

    def settle(self, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.task == "multiclass" and target.is_floating_point():
            raise UsageError("lovasz takes class numbers, not shares of classes: leave out mixup and cutmix.")
        return super().settle(output, target)


def _rows(values: Tensor, whole: bool) -> Tensor:
    """Return what a class has in a row: [C, N * pixels] of a whole batch, or else [N, C, pixels]."""
    return values.transpose(0, 1).flatten(1) if whole else values.reshape(*values.shape[:2], -1)


def _jaccard_steps(truth: Tensor) -> Tensor:
    """Return by how much the Jaccard loss grows with each error, of truths in falling order of errors, [..., P].

    Algorithm 1 in M. Berman et al., "The Lovasz-Softmax loss", 2018.
    """
    total = truth.sum(dim=-1, keepdim=True)
    both = total - truth.cumsum(dim=-1)
    either = total + (1 - truth).cumsum(dim=-1)
    return (1 - both / either).diff(dim=-1, prepend=torch.zeros_like(total))
