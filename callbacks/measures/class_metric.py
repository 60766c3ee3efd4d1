"""Accuracy, F1, IoU and other metrics of predicted classes, all from one count."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from .measure import Reductions, is_on_cpu

CLASS_METRICS = ("accuracy", "balanced_accuracy", "dice", "f1", "iou", "precision", "recall")

# Of hits, predictions, true samples and counted ones: what a score per class divides, and by what.
_SCORES = {
    "balanced_accuracy": ((1, 0, 0, 0), (0, 0, 1, 0)),
    "dice": ((2, 0, 0, 0), (0, 1, 1, 0)),  # the same number as F1: Dice is F1 of pixels
    "f1": ((2, 0, 0, 0), (0, 1, 1, 0)),
    "iou": ((1, 0, 0, 0), (-1, 1, 1, 0)),
    "precision": ((1, 0, 0, 0), (0, 1, 0, 0)),
    "recall": ((1, 0, 0, 0), (0, 0, 1, 0)),
}
_MOST_AT_ONCE = 2**20  # samples; of more, time goes into the samples and not into asking for operations
_NONE, _TRUE, _EITHER = (0, 0, 0, 0), (0, 0, 1, 0), (0, 1, 1, 0)


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
        # Kept on the device, as making them there at each batch is one more operation.
        self._one = torch.ones((), dtype=torch.int64, device=device)
        self._nothing = torch.zeros((4, num_classes + 1), dtype=torch.int64, device=device)

    @torch.no_grad()
    def update(self, predicted: Tensor, target: Tensor, *, only_classes: bool = False) -> Tensor:
        """Add one batch, and return its own totals, int64, [4, C].

        Args:
            predicted: int64, class numbers [N, ...], or 0 and 1 as [N, C, ...] for ``multilabel``.
            target: the same, of any type; see ``decide_targets`` for soft ones.
            only_classes: whether all targets are known to be classes that count, which saves looking at them.
        """
        target = target.to(torch.int64).reshape(predicted.shape)
        wanted = self._one.expand(target.shape)
        if self.ignore_index is not None and not only_classes:
            wanted = (target != self.ignore_index).to(torch.int64)
        if self.task == "multilabel":
            totals = self._per_label(predicted, target, wanted)
        else:
            if not only_classes:
                # One more place takes the targets that are no class: -1, which is the one before 0.
                target = target.clamp(-1, self._nothing.shape[1] - 1).remainder_(self._nothing.shape[1])
            at_once = not is_on_cpu(predicted) and predicted.numel() <= _MOST_AT_ONCE
            count = self._per_class_at_once if at_once else self._per_class
            totals = count(predicted.reshape(-1), target.reshape(-1), wanted.reshape(-1))
        self.state["totals"] += totals
        return totals

    def _per_class(self, predicted: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        # Counted by scatter_add_, as torch.bincount waits for a GPU.
        places = self._nothing.clone()
        places[0].scatter_add_(0, predicted, (predicted == target) * wanted)
        places[1].scatter_add_(0, predicted, wanted)
        places[2].scatter_add_(0, target, wanted)
        return places[:, :-1]

    def _per_class_at_once(self, predicted: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        """Do the same by fewer operations, which a GPU has to be asked for one by one, and more memory."""
        missed = self._nothing.shape[1] - 1
        places = torch.stack([target.masked_fill(predicted != target, missed), predicted, target])
        return self._nothing.scatter_add(1, places, wanted.expand(3, -1))[:, :-1]

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


class ClassMetrics:
    """Some of ``CLASS_METRICS`` from totals, all by the same few operations.

    ``accuracy`` is the share of all samples, or labels, that are predicted right. The others are, for ``multiclass``,
    means over the classes that occur, as truth or as prediction (``balanced_accuracy``: as truth; NaN where none does);
    for ``binary`` those of class 1 alone (``balanced_accuracy``: the mean of both classes); for ``multilabel`` means
    over all labels. A class that is never predicted has the precision 0.

    Each is a sum over classes of ``above / below``, divided by a sum of ``weight``: three sums of multiples of the
    totals, and limits for them.

    Args:
        names: of ``CLASS_METRICS``; ``balanced_accuracy`` has no meaning for ``multilabel``.
        task: ``binary``, ``multiclass`` or ``multilabel``.
        device: where the totals are.
    """

    def __init__(self, names: Sequence[str], task: str, device: torch.device | str = "cpu"):
        options: Any = {"dtype": torch.float64, "device": device}
        *multiples, below, least, most = zip(*(_ratio(name, task) for name in names), strict=True)
        self._multiples = torch.tensor([*chain(*multiples)], **options)
        self._below, self._least, self._most = (torch.tensor(limits, **options) for limits in (below, least, most))
        # Of nothing at all the accuracy is 0.
        self._fewest = torch.tensor([float(name == "accuracy") for name in names], **options)

    def compute(self, totals: Tensor) -> Tensor:
        """Return the metrics, float64, [len(names)], of totals as ``ClassTotals`` has them."""
        above, weight, below = (parts := self._multiples @ totals.double()).tensor_split(3)
        above /= below.clamp_(min=self._below)
        weight.clamp_(self._least, self._most)
        sums, weights = parts[: 2 * len(self._fewest)].unflatten(0, (2, -1)).sum(dim=2)
        values: Tensor = sums / weights.clamp_(min=self._fewest)
        return values


_Row = tuple[float, ...]


def _ratio(name: str, task: str) -> tuple[_Row, _Row, _Row, _Row, _Row, _Row]:
    """Return above, weight and below as multiples of the totals, the least below, and the least and most weight.

    Limits are of all classes, but for ``binary`` of class 0 and class 1.
    """
    zero, one, inf = ((number,) * (2 if task == "binary" else 1) for number in (0.0, 1.0, math.inf))
    if name == "accuracy":
        right, of = ((1, 0, 0, 0), (0, 1, 0, 0)) if task != "multilabel" else ((2, -1, -1, 1), (0, 0, 0, 1))
        return right, of, _NONE, one, zero, inf
    above, below = _SCORES[name]
    if name == "balanced_accuracy":
        return above, _TRUE, below, one, zero, one
    if task == "multiclass":
        return above, _EITHER, below, one, zero, one  # the scores of classes that do not occur are 0
    if task == "multilabel":
        return above, _NONE, below, one, one, one
    return above, _NONE, below, (math.inf, 1.0), (0.0, 1.0), (0.0, 1.0)  # the score of class 0 becomes 0


def _sum_per_label(part: Tensor) -> Tensor:
    return part.flatten(2).sum(dim=(0, 2)) if part.ndim > 2 else part.sum(dim=0)
