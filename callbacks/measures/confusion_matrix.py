"""Confusion matrices, counted without reading the device, and their largest confusions."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from .measure import Reductions
from .targets import inside_classes

_LARGE = 2**22  # cells: 32 MiB in int64; more begin in int32
_MOST_IN_32_BITS = 2**31 - 1


@stored_as("ConfusionMatrix")
class ConfusionMatrix:
    """Counts of pairs of true and predicted class over a loader.

    The state lives on the device and is valid before the first update. Its size depends on the number of classes alone:
    8 bytes per cell, or 4 where there are more than four million cells and fewer than 2^31 samples were seen.
    ``counts`` is [G, K, K]: one matrix of all classes [1, C, C], or one of no and yes per label [L, 2, 2]; rows are
    true, columns predicted. ``outside`` is the number of targets that were no class and were left out.

    Args:
        groups: G, number of matrices: 1, or the number of labels.
        classes: K, number of classes of each.
        ignore_index: target value that is left out; None: no value is.
        device: where the tensors are.

    Example:
        >>> measure = ConfusionMatrix(groups=1, classes=3)
        >>> measure.update(predicted=torch.tensor([0, 1, 1]), target=torch.tensor([0, 1, 2]))
        >>> measure.state["counts"][0]
        tensor([[1, 0, 0],
                [0, 1, 0],
                [0, 1, 0]])
    """

    reductions: ClassVar[Reductions] = {"counts": "sum", "outside": "sum"}

    def __init__(self, groups: int, classes: int, ignore_index: int | None = None, device: torch.device | str = "cpu"):
        self.ignore_index = ignore_index
        self.seen = 0
        dtype = torch.int64 if groups * classes**2 <= _LARGE else torch.int32
        self.state = {
            "counts": torch.zeros((groups, classes, classes), dtype=dtype, device=device),
            "outside": torch.zeros((), dtype=torch.int64, device=device),
        }

    @torch.no_grad()
    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add one batch.

        Args:
            predicted: int64, class numbers from 0 to K - 1: [N, ...] for one matrix, [N, L, ...] for one per label.
            target: the same, of any type; its shape may differ by axes of length 1.
        """
        # A cell holds at most all samples seen, so the host knows when int32 may overflow.
        self.seen += predicted.numel()
        if self.seen > _MOST_IN_32_BITS:
            self.widen()
        counts = self.state["counts"]
        groups, classes = counts.shape[:2]
        target = target.to(torch.int64).reshape(predicted.shape)
        target, inside, outside = inside_classes(target, classes, self.ignore_index)
        self.state["outside"] += outside
        cell = predicted.add(target, alpha=classes)
        if groups > 1:
            label = torch.arange(groups, device=predicted.device).reshape(-1, *[1] * (predicted.ndim - 2))
            cell = cell + label * classes**2
        # What is left out counts 0: indexing by a mask would wait for the device.
        counts.view(-1).scatter_add_(0, cell.reshape(-1), inside.to(counts.dtype).reshape(-1))

    def widen(self) -> None:
        """Count in int64 from now on, which many samples or the sum over several ranks need."""
        self.state["counts"] = self.state["counts"].to(torch.int64)


def true_totals(counts: Tensor) -> Tensor:
    """Return the samples of each true class, [G, K], int64, of counts [G, K, K]."""
    parts = _row_blocks(counts)
    if len(parts) == 1:
        return parts[0].sum(dim=2)
    # The sums have their place before the first part is copied: a sum allocated after each copy would keep malloc from
    # using the memory of one copy for the next.
    totals = torch.empty(counts.shape[:2], dtype=torch.int64, device=counts.device)
    for part, sums in zip(parts, totals.split(parts[0].shape[1], dim=1), strict=True):
        torch.sum(part, dim=2, out=sums)
    return totals


def predicted_totals(counts: Tensor) -> Tensor:
    """Return how often each class was predicted, [G, K], int64, of counts [G, K, K]."""
    return reduce(torch.add, (part.sum(dim=1) for part in _row_blocks(counts)))


def total(counts: Tensor) -> Tensor:
    """Return how many were counted, [], int64, of counts [G, K, K]."""
    return reduce(torch.add, (part.sum() for part in _row_blocks(counts)))


def _row_blocks(counts: Tensor) -> Sequence[Tensor]:
    """Return some rows at a time."""
    # torch makes an int64 copy of what it sums, which would be as large as all counts.
    blocks: Sequence[Tensor] = counts.split(max(1, _LARGE // max(1, counts.shape[0] * counts.shape[2])), dim=1)
    return blocks


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


@dataclass(frozen=True)
class Cells:
    """The cells of counts that are not 0: with many classes these are few, at most one per sample.

    Attributes:
        places: [M], int64: index of each in the flat counts, rising.
        values: [M], int64: the count of each.
        totals: [G, K], int64: samples of each true class.
    """

    places: Tensor
    values: Tensor
    totals: Tensor

    @classmethod
    def of(cls, counts: Tensor) -> "Cells":
        """Return the cells of counts [G, K, K], which are on the host."""
        flat = counts.reshape(-1)
        places = flat.nonzero()[:, 0]
        return cls(places, flat[places].long(), true_totals(counts))

    def blocks(self, every: int) -> Tensor:
        """Return the counts of the first group with ``every`` classes merged, [B, B], B = K / ``every`` rounded up."""
        classes = self.totals.shape[1]
        side = -(-classes // every)
        mine = self.places < classes**2
        places = self.places[mine]
        cells = places // classes // every * side + places % classes // every
        return torch.zeros(side * side, dtype=torch.int64).index_add_(0, cells, self.values[mine]).reshape(side, side)

    def block_hits(self, every: int) -> Tensor:
        """Return how many of the first group are right, [B], with ``every`` classes merged."""
        classes = self.totals.shape[1]
        mine = (self.places < classes**2) & (self.places // classes == self.places % classes)
        blocks = self.places[mine] // classes // every
        return torch.zeros(-(-classes // every), dtype=torch.int64).index_add_(0, blocks, self.values[mine])


def most_confused(counts: Tensor | Cells, limit: int) -> list[Confusion]:
    """Return the largest confusions, at most ``limit``; equal ones in the order of label, true, predicted.

    Args:
        counts: [G, K, K], on the host, or its cells.
        limit: at least 1.

    Example:
        >>> counts = torch.tensor([[[8, 2, 0], [0, 9, 1], [0, 0, 10]]])
        >>> (worst,) = most_confused(counts, limit=1)
        >>> worst.true, worst.predicted, worst.count, worst.share
        (0, 1, 2, 0.2)
    """
    cells = counts if isinstance(counts, Cells) else Cells.of(counts)
    classes = cells.totals.shape[1]
    wrong = cells.places // classes % classes != cells.places % classes
    places, values = cells.places[wrong], cells.values[wrong]
    # A stable sort keeps equal counts in the order of their places: label, true, predicted.
    first = values.sort(descending=True, stable=True).indices[:limit]
    places, values = places[first], values[first]
    totals = cells.totals.reshape(-1)[places // classes]
    columns = (
        places // classes**2,
        places // classes % classes,
        places % classes,
        values,
        values.double() / totals,
    )
    return [Confusion(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]
