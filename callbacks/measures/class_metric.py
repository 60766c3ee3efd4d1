"""Metrics of decided classes, all drawn from one count, without reading the device."""

import torch
from torch import Tensor

CLASS_METRICS = ("accuracy", "balanced_accuracy", "f1", "iou", "precision", "recall")


class ClassTotals:
    """What all ``CLASS_METRICS`` follow from, over a loader and batch by batch.

    The state lives on the device and is valid before the first update: ``totals`` is int64, [4, C], of each class or
    label how often it was decided rightly, how often decided, how often true, and how many samples counted for it.

    The classes of torchmetrics count with ``torch.bincount``, which makes the step wait for a GPU.

    Args:
        task: ``binary``, ``multiclass`` or ``multilabel``.
        num_classes: C, number of classes or labels; 2 for ``binary``.
        ignore_index: target value that is left out.
        device: where the tensors are.
    """

    reductions = {"totals": "sum"}

    def __init__(
        self, task: str, num_classes: int, ignore_index: int | None = None, device: torch.device | str = "cpu"
    ):
        self.task = task
        self.ignore_index = ignore_index
        self.state = {"totals": torch.zeros((4, num_classes), dtype=torch.int64, device=device)}

    @torch.no_grad()
    def update(self, decided: Tensor, target: Tensor) -> Tensor:
        """Add one batch, and return its own totals, int64, [4, C].

        Args:
            decided: int64, class numbers [N, ...], or 0 and 1 as [N, C, ...] for ``multilabel``.
            target: the same, of any type.
        """
        target = target.to(torch.int64).reshape(decided.shape)
        wanted = torch.ones_like(target)
        if self.ignore_index is not None:
            wanted = (target != self.ignore_index).to(torch.int64)
            target = target * wanted
        if self.task == "multilabel":
            decided = decided * wanted
            totals = torch.stack([_per_label(part) for part in (decided * target, decided, target, wanted)])
        else:
            totals = self._per_class(decided.reshape(-1), target.reshape(-1), wanted.reshape(-1))
        self.state["totals"] += totals
        return totals

    def _per_class(self, decided: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        totals = torch.zeros_like(self.state["totals"])
        hits, predicted, true, counted = totals.unbind()
        hits.scatter_add_(0, target, (decided == target) * wanted)
        predicted.scatter_add_(0, decided, wanted)
        counted.copy_(true.scatter_add_(0, target, wanted), non_blocking=True)
        return totals


def class_metric(name: str, task: str, totals: Tensor) -> Tensor:
    """Return one of ``CLASS_METRICS``, float64, [], on the device of the totals.

    ``accuracy`` is the share of all samples, or labels, that are decided right. The others are, for ``multiclass``,
    means over the classes that occur, as truth or as prediction (``balanced_accuracy``: as truth; NaN where none does);
    for ``binary`` those of class 1 alone (``balanced_accuracy``: the mean of both classes); for ``multilabel`` means
    over all labels. A class that is never predicted has the precision 0.

    Args:
        name: one of ``CLASS_METRICS``; ``balanced_accuracy`` has no meaning for ``multilabel``.
        task: ``binary``, ``multiclass`` or ``multilabel``.
        totals: see ``ClassTotals``.
    """
    hits, predicted, true, counted = totals.unbind()
    either = predicted + true
    if name == "accuracy":
        right = hits if task != "multilabel" else counted - either + 2 * hits
        return right.sum().double() / counted.sum().clamp(min=1)
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
    return (scores * occurring).sum() / occurring.sum()


def _per_label(part: Tensor) -> Tensor:
    return part.flatten(2).sum(dim=(0, 2)) if part.ndim > 2 else part.sum(dim=0)
