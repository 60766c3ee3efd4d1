"""Metrics of decided classes, counted without reading the device."""

import torch
import torchmetrics
from torch import Tensor

CLASS_METRICS = ("accuracy", "balanced_accuracy", "f1", "iou", "precision", "recall")


class ClassMetric(torchmetrics.Metric):
    """One of ``CLASS_METRICS`` over decided classes.

    ``accuracy`` is the share of all samples, or labels, that are decided right. The others are, for ``multiclass``,
    means over the classes that occur, as truth or as prediction (``balanced_accuracy``: as truth); for ``binary`` those
    of class 1 alone (``balanced_accuracy``: the mean of both classes); for ``multilabel`` means over all labels. A
    class that is never predicted has the precision 0.

    The classes of torchmetrics count with ``torch.bincount``, which makes the step wait for a GPU.

    Args:
        name: one of ``CLASS_METRICS``.
        task: ``binary``, ``multiclass`` or ``multilabel``; ``balanced_accuracy`` has no meaning for the last.
        num_classes: number of classes or labels; 2 for ``binary``.
        ignore_index: target value that is left out.
    """

    full_state_update = False
    hits: Tensor
    predicted: Tensor
    true: Tensor
    counted: Tensor

    def __init__(self, name: str, task: str, num_classes: int, ignore_index: int | None = None):
        super().__init__()
        self.name = name
        self.task = task
        self.ignore_index = ignore_index
        for state in ("hits", "predicted", "true", "counted"):
            self.add_state(state, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, decided: Tensor, target: Tensor) -> None:
        """Add one batch.

        Args:
            decided: class numbers [N, ...], or 0 and 1 as [N, C, ...] for ``multilabel``.
            target: the same, of any type.
        """
        target = target.to(torch.int64).reshape(decided.shape)
        wanted = torch.ones_like(target)
        if self.ignore_index is not None:
            wanted = (target != self.ignore_index).to(torch.int64)
            target = target * wanted
        if self.task == "multilabel":
            decided = decided * wanted
            counts = [_per_label(part) for part in (decided * target, decided, target, wanted)]
        else:
            decided, target, wanted = decided.reshape(-1), target.reshape(-1), wanted.reshape(-1)
            hit = (decided == target) * wanted
            counts = [self._per_class(*pair) for pair in ((target, hit), (decided, wanted), (target, wanted))]
            counts.append(counts[-1])
        self.hits, self.predicted, self.true, self.counted = (
            state + count
            for state, count in zip((self.hits, self.predicted, self.true, self.counted), counts, strict=True)
        )

    def compute(self) -> Tensor:
        """Return the metric, a number on the device."""
        either = self.predicted + self.true
        if self.name == "accuracy":
            right = self.hits if self.task != "multilabel" else self.counted - either + 2 * self.hits
            return right.sum().double() / self.counted.sum().clamp(min=1)
        above, below = {
            "precision": (self.hits, self.predicted),
            "f1": (2 * self.hits, either),
            "iou": (self.hits, either - self.hits),
        }.get(self.name, (self.hits, self.true))
        scores = above.double() / below.clamp(min=1)
        if self.task == "multilabel":
            return scores.mean()
        balanced = self.name == "balanced_accuracy"
        if self.task == "binary" and not balanced:
            return scores[1]
        counted = (self.true if balanced else either) > 0
        return (scores * counted).sum() / counted.sum()

    def _per_class(self, classes: Tensor, weights: Tensor) -> Tensor:
        return torch.zeros_like(self.hits).scatter_add_(0, classes, weights)


def _per_label(part: Tensor) -> Tensor:
    return part.flatten(2).sum(dim=(0, 2)) if part.ndim > 2 else part.sum(dim=0)
