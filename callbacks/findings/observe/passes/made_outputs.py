"""Outputs made by hand for a target: right, wrong, blank."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...probe.settings_probe import CriterionProbe

SCORE = 8.0  # a logit by which a softmax or a sigmoid is sure, without an overflow in half precision
SURE = 0.999
_VOID = 255  # of a mask, which no loss takes for a class
_NUMBERS = ("mse", "l1", "smooth_l1", "gaussian_nll", "poisson_nll")
_CLASSES = ("cross_entropy", "nll", "kl_div")


@dataclass(frozen=True)
class Task:
    """What a target is, seen beside its output.

    Attributes:
        kind: ``classes`` for one class per place, ``labels`` for zeros and ones, or ``numbers``.
        output: the model's own, [N, C, ...].
        truth: class numbers [N, ...]; labels or numbers in the output's shape.
        counts: which places count, in the shape of ``truth``.
    """

    kind: str
    output: Tensor
    truth: Tensor
    counts: Tensor

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.output.shape[1]

    def right(self, *, probabilities: bool = False) -> Tensor | None:
        """Return the output that says what the target says; None: there is no such as a probability."""
        return self._said(self.truth, probabilities)

    def wrong(self, *, probabilities: bool = False) -> Tensor | None:
        """Return an output that is sure of something else: the next class, the other label, another number."""
        if self.kind == "classes":
            other = torch.where(self.counts, (self.truth + 1) % self.classes, self.truth)
        else:
            other = 1 - self.truth
        return self._said(other, probabilities)

    def _said(self, truth: Tensor, probabilities: bool) -> Tensor | None:
        if self.kind == "numbers":
            return None if probabilities else truth.to(self.output.dtype)
        high, low = (SURE, 1 - SURE) if probabilities else (SCORE, -SCORE)
        if self.kind == "labels":
            said = torch.where(truth > 0.5, high, low).to(self.output.dtype)
            return torch.where(self.counts, said, self.output)
        if probabilities:
            low /= self.classes - 1
        said = torch.full_like(self.output, low)
        said.scatter_(1, truth.clamp(0, self.classes - 1).unsqueeze(1), high)
        return torch.where(self.counts.unsqueeze(1), said, self.output)


def find_task(output: Any, target: Any, criterion: CriterionProbe) -> Task | None:
    """Return what a target is; None where no right output is known."""
    if not isinstance(output, Tensor) or not isinstance(target, Tensor) or not output.is_floating_point():
        return None
    if not output.ndim or not target.numel() or target.is_complex():
        return None
    output = output.detach()
    shape = output.shape
    if len(shape) > 1 and shape[1] > 1:
        places = shape[:1] + shape[2:]
        if not target.is_floating_point() and target.dtype != torch.bool and target.shape == places:
            return _of_classes(output, target.long(), criterion)
        if target.is_floating_point() and target.shape == shape and _is_shares(target, criterion):
            return _of_classes(output, target.argmax(dim=1), replace(criterion, ignore_index=None))
    if target.numel() != output.numel():
        return None
    return _of_each(output, target.reshape(shape), criterion)


def _of_classes(output: Tensor, truth: Tensor, criterion: CriterionProbe) -> Task | None:
    counts = (truth >= 0) & (truth < output.shape[1])
    if not criterion.kind and bool((~counts & (truth >= 0) & (truth != _VOID)).any()):
        return None  # a loss of the user's own takes these outputs for something else, as thresholds between classes
    if criterion.ignore_index is not None:
        counts &= truth != criterion.ignore_index
    # Targets that are no classes of this output belong to another task, as those of an embedding do.
    return Task("classes", output, truth, counts) if bool(counts.any()) else None


def _is_shares(target: Tensor, criterion: CriterionProbe) -> bool:
    sums = target.float().sum(dim=1)
    whole = bool(((sums - 1).abs() < 1e-3).all()) and bool((target >= 0).all())
    return whole and criterion.kind in _CLASSES


def _of_each(output: Tensor, target: Tensor, criterion: CriterionProbe) -> Task | None:
    counts = torch.ones_like(target, dtype=torch.bool)
    if criterion.ignore_index is not None:
        counts = target != criterion.ignore_index
    known = target[counts]
    binary = bool(((known == 0) | (known == 1)).all())
    if binary and criterion.kind not in _NUMBERS:
        return Task("labels", output, target.to(output.dtype), counts)
    return (
        Task("numbers", output, target.to(output.dtype), counts) if target.is_floating_point() or not binary else None
    )
