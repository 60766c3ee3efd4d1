"""How often each true class was predicted as each class, counted without reading the device."""

from dataclasses import dataclass

import torch
from torch import Tensor


class ConfusionMatrix:
    """Counts of pairs of true and predicted class over a loader.

    The state lives on the device, in int64, and is valid before the first update. Its size depends on the number of
    classes alone. ``counts`` is [G, K, K]: one matrix of all classes [1, C, C], or one of no and yes a label [L, 2, 2];
    rows are true, columns predicted. ``outside`` is the number of targets that were no class and were left out.

    Args:
        groups: G, number of matrices: 1, or the number of labels.
        classes: K, number of classes of each.
        ignore_index: target value that is left out; None: nothing is.
        device: where the tensors are.
    """

    reductions = {"counts": "sum", "outside": "sum"}

    def __init__(self, groups: int, classes: int, ignore_index: int | None = None, device: torch.device | str = "cpu"):
        self.ignore_index = ignore_index
        self.state = {
            "counts": torch.zeros((groups, classes, classes), dtype=torch.int64, device=device),
            "outside": torch.zeros((), dtype=torch.int64, device=device),
        }

    @torch.no_grad()
    def update(self, decided: Tensor, target: Tensor) -> None:
        """Add one batch.

        Args:
            decided: int64, class numbers from 0 to K - 1: [N, ...] for one matrix, [N, L, ...] for one a label.
            target: the same, of any type; its shape may differ by axes of length 1.
        """
        counts = self.state["counts"]
        groups, classes = counts.shape[:2]
        target = target.to(torch.int64).reshape(decided.shape)
        inside = (target >= 0) & (target < classes)
        if self.ignore_index is not None:
            wanted = target != self.ignore_index
            self.state["outside"] += (wanted & ~inside).sum()
            inside = inside & wanted
        else:
            self.state["outside"] += (~inside).sum()
        cell = target * classes + decided
        if groups > 1:
            label = torch.arange(groups, device=decided.device).reshape(-1, *[1] * (decided.ndim - 2))
            cell = cell + label * classes**2
        # What is left out is counted as nothing, in the first cell: an index by mask would make the step wait.
        counts.view(-1).scatter_add_(0, torch.where(inside, cell, 0).reshape(-1), inside.to(torch.int64).reshape(-1))


@dataclass(frozen=True)
class Confusion:
    """A true class and another one that was predicted instead.

    Attributes:
        group: number of the label; 0 where there is one matrix.
        true: number of the true class.
        predicted: number of the predicted class.
        count: how often.
        share: of all samples of the true class, 0 to 1.
    """

    group: int
    true: int
    predicted: int
    count: int
    share: float


def most_confused(counts: Tensor, limit: int) -> list[Confusion]:
    """Return the largest confusions, at most ``limit``; equal ones in the order of label, true, predicted.

    Args:
        counts: [G, K, K], on the host.
        limit: at least 1.
    """
    classes = counts.shape[-1]
    wrong = (counts * (1 - torch.eye(classes, dtype=torch.int64))).reshape(-1)
    smallest = wrong.topk(min(limit, len(wrong))).values[-1].clamp(min=1)
    places = (wrong >= smallest).nonzero()[:, 0]  # topk takes any of equals; of these it is the first that count
    places = places[wrong[places].sort(descending=True, stable=True).indices[:limit]]
    totals = counts.sum(dim=2).reshape(-1)[places // classes]
    columns = (
        places // classes**2,
        places // classes % classes,
        places % classes,
        wrong[places],
        wrong[places].double() / totals,
    )
    return [Confusion(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
