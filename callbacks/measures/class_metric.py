"""Accuracy, F1, IoU and other metrics of predicted classes, all from one count."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from .measure import Reductions

CLASS_METRICS = ("accuracy", "balanced_accuracy", "dice", "f1", "iou", "precision", "recall")


@stored_as("ClassTotals")
class ClassTotals:
    """Counts from which all ``CLASS_METRICS`` follow, over a loader and batch by batch.

    The state lives on the device and is valid before the first update. ``totals`` is int64, [4, C]: for each class or
    label the number of hits, of predictions, of true samples and, for labels, of samples that count. A target that is
    no class does not count as true; ``count_outside`` returns how many there were. For labels ``outside`` holds that
    number, int64, [].

    Args:
        task: ``binary``, ``multiclass`` or ``multilabel``.
        num_classes: C, number of classes or labels; 2 for ``binary``.
        ignore_index: target value that is left out.
        device: where the tensors are.
    """

    reductions: ClassVar[Reductions] = {"totals": "sum", "outside": "sum"}

    def __init__(
        self, task: str, num_classes: int, ignore_index: int | None = None, device: torch.device | str = "cpu"
    ):
        self.task = task
        self.ignore_index = ignore_index
        self.state = {"totals": torch.zeros((4, num_classes), dtype=torch.int64, device=device)}
        if task == "multilabel":
            self.state["outside"] = torch.zeros((), dtype=torch.int64, device=device)
        # Kept on the device, as making it there at each batch is one more operation.
        self._one = torch.ones((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Add one batch, and return its own totals, int64, [4, C].

        Args:
            predicted: int64, class numbers [N, ...], or 0 and 1 as [N, C, ...] for ``multilabel``.
            target: the same, of any type; see ``decide_targets`` for soft ones.
        """
        target = target.to(torch.int64).reshape(predicted.shape)
        wanted = self._one.expand(target.shape)
        if self.ignore_index is not None:
            wanted = (target != self.ignore_index).to(torch.int64)
        if self.task == "multilabel":
            totals = self._per_label(predicted, target, wanted)
        else:
            totals = self._per_class(predicted.reshape(-1), target.reshape(-1), wanted.reshape(-1))
        self.state["totals"] += totals
        return totals

    def _per_class(self, predicted: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        classes = self.state["totals"].shape[1]
        # Counted by scatter_add_, as torch.bincount waits for a GPU. One more place at both ends takes the targets that
        # are no class.
        places = self.state["totals"].new_zeros((4, classes + 2))
        totals = places[:, 1:-1]
        totals[0].scatter_add_(0, predicted, (predicted == target) * wanted)
        totals[1].scatter_add_(0, predicted, wanted)
        places[2].scatter_add_(0, target.clamp(-1, classes).add_(1), wanted)
        return totals

    def _per_label(self, predicted: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        true = target == 1
        counted = (true | (target == 0)).to(torch.int64) * wanted
        self.state["outside"] += (wanted - counted).sum()
        predicted = predicted * counted
        return torch.stack([_sum_per_label(part) for part in (predicted * true, predicted, true * counted, counted)])


def count_outside(state: Mapping[str, Tensor]) -> Tensor:
    """Return how many targets were no class, or no label of 0 and 1, int64, [], of a state of ``ClassTotals``."""
    if "outside" in state:
        return state["outside"]
    # Every prediction is a class, so the targets that are missing among the true ones were none.
    return (state["totals"][1] - state["totals"][2]).sum()


def class_metric(name: str, task: str, totals: Tensor) -> Tensor:
    """Return one of ``CLASS_METRICS``, float64, [], on the device of the totals.

    ``accuracy`` is the share of all samples, or labels, that are predicted right. The others are, for ``multiclass``,
    means over the classes that occur, as truth or as prediction (``balanced_accuracy``: as truth; NaN where none does);
    for ``binary`` those of class 1 alone (``balanced_accuracy``: the mean of both classes); for ``multilabel`` means
    over all labels. A class that is never predicted has the precision 0.

    Args:
        name: one of ``CLASS_METRICS``; ``balanced_accuracy`` has no meaning for ``multilabel``.
        task: ``binary``, ``multiclass`` or ``multilabel``.
        totals: see ``ClassTotals``.
    """
    hits, predicted, true, counted = totals.unbind()
    if name == "accuracy":
        right, of = (hits, predicted) if task != "multilabel" else (counted - predicted - true + 2 * hits, counted)
        return right.sum(dtype=torch.float64) / of.sum().clamp(min=1)
    name = "f1" if name == "dice" else name  # the same number: Dice is F1 of pixels
    either = predicted + true
    above, below = {
        "precision": (hits, predicted),
        "f1": (2 * hits, either),
        "iou": (hits, either - hits),
    }.get(name, (hits, true))
    scores = above.double() / below.clamp(min=1)
    if task == "multilabel":
        return scores.mean()
    balanced = name == "balanced_accuracy"
    if task == "binary" and not balanced:
        return scores[1]
    occurring = (true if balanced else either) > 0
    return scores.sum() / occurring.sum()  # the scores of the others are 0


def _sum_per_label(part: Tensor) -> Tensor:
    return part.flatten(2).sum(dim=(0, 2)) if part.ndim > 2 else part.sum(dim=0)
