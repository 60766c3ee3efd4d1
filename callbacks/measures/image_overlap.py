"""IoU, Dice and boundary IoU of predicted and true regions, averaged over images and of all images together."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from .boundaries import boundary_reach, find_boundaries
from .measure import Reductions

OVERLAPS = ("iou", "dice")
BOUNDARY_IOU = "boundary_iou"
WITHOUT_TRUTH = ("skip", "match")


class ImageOverlap:
    """Means over images of the overlap of each class, over a loader and batch by batch.

    For an image and a class it is ``hits / (predicted + true - hits)`` (``iou``, the Jaccard index) or ``2 * hits /
    (predicted + true)`` (``dice``, F1 of pixels), in numbers of pixels. An image's own value is the mean over the
    classes that have one. pytorch-toolbelt averages in the same way, but adds an epsilon of 1e-7.

    ``boundary_iou`` is the IoU of the predicted and the true region without what is deeper inside than 2% of the
    image's diagonal, see ``find_boundaries``.

    The state lives on the device and is valid before the first update. ``sums`` and ``counts``, [K, C + 1], hold for
    each overlap and class the sum of its values and their number, and in the last column those of the images' own
    values. The K overlaps are iou, dice and, where it is wanted, boundary_iou. ``pixels``, [1 or 2, 2, C], holds the
    intersection and the union of all images for each class, of regions and of boundaries. ``outside`` is the number of
    targets that were no class.

    Args:
        task: ``multiclass``, ``binary`` or ``multilabel``.
        num_classes: number of classes or labels of the output; 2 for ``binary``.
        classes: the C ones that count; of ``binary`` class 1.
        ignore_index: target value that is left out.
        without_truth: the value of an image without a true pixel of a class: ``skip``, none; ``match``, 1 where none is
            predicted either, and 0 where one is.
        device: where the tensors are.
        boundary: whether boundary_iou is wanted.

    Example:
        >>> measure = ImageOverlap("multiclass", num_classes=2, classes=[1])
        >>> truth = torch.tensor([[[1, 1], [0, 0]]])
        >>> batch = measure.update(predicted=torch.tensor([[[1, 0], [0, 0]]]), target=truth)
        >>> iou, dice = image_means(measure.state)[:, -1].tolist()
        >>> round(iou, 3), round(dice, 3)
        (0.5, 0.667)
    """

    reductions: ClassVar[Reductions] = {"sums": "sum", "counts": "sum", "pixels": "sum", "outside": "sum"}

    def __init__(
        self,
        task: str,
        num_classes: int,
        classes: Sequence[int],
        ignore_index: int | None = None,
        without_truth: str = "skip",
        device: torch.device | str = "cpu",
        *,
        boundary: bool = False,
    ):
        self.task, self.num_classes = task, num_classes
        self.ignore_index, self.without_truth = ignore_index, without_truth
        self.classes, self.boundary = list(classes), boundary
        shape = (len(OVERLAPS) + boundary, len(self.classes) + 1)
        self.state = {
            "sums": torch.zeros(shape, dtype=torch.float64, device=device),
            "counts": torch.zeros(shape, dtype=torch.int64, device=device),
            "pixels": torch.zeros((1 + boundary, 2, len(self.classes)), dtype=torch.int64, device=device),
            "outside": torch.zeros((), dtype=torch.int64, device=device),
        }

    @torch.no_grad()
    def update(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Add one batch, and return its own means as ``image_means`` does.

        Args:
            predicted: int64, [N, ...] class numbers, or for ``multilabel`` [N, C, ...] 0 and 1.
            target: the same; see ``decide_targets`` for soft ones.
        """
        ignored = (
            torch.zeros_like(target, dtype=torch.bool) if self.ignore_index is None else target == self.ignore_index
        )
        near = self._near_boundaries(predicted, target, ignored) if self.boundary else None
        if self.task == "multilabel":
            parts = self._count_labels(predicted, target, ignored, near)
        else:
            # A sample of one number has no axis of pixels, for which ``flatten`` would ask.
            predicted, target, ignored = (part.reshape(len(part), -1) for part in (predicted, target, ignored))
            parts = self._count_classes(predicted, target, ignored, near)
        # By slices, as an index tensor would be copied to the device, for which the step waits.
        if self.classes != [*range(parts.shape[3])]:  # all of them may be in another order
            parts = torch.stack([parts[..., number] for number in self.classes], dim=3)
        return self._add(parts)

    def _near_boundaries(self, predicted: Tensor, target: Tensor, ignored: Tensor) -> Tensor:
        """Return which pixels are near a boundary of predicted and of true regions, bool, [2, N, ...]."""
        classes = 2 if self.task == "multilabel" else self.num_classes
        shape = predicted.shape
        # A map per label; the output of ``binary`` may have an axis of length 1 for it.
        if self.task == "multilabel" or (self.task == "binary" and len(shape) > 1 and shape[1] == 1):
            predicted, target, ignored = (part.flatten(0, 1) for part in (predicted, target, ignored))
        maps = torch.cat([predicted.to(torch.int32), target.clamp(0, classes).to(torch.int32)])
        reach = boundary_reach(maps.shape[1:])
        return find_boundaries(maps, classes, torch.cat([ignored, ignored]), reach).reshape(2, *shape)

    def _count_classes(self, predicted: Tensor, target: Tensor, ignored: Tensor, near: Tensor | None) -> Tensor:
        """Return hits, predicted and true pixels, [1 or 2, 3, N, C], of regions and of boundaries, of maps [N, P]."""
        count, classes = len(predicted), self.num_classes
        found, true = (predicted * 2).add_(predicted == target), target.clamp(-1, classes).add_(1)
        if near is not None:
            of_found, of_true = near.reshape(2, count, -1)
            found.mul_(4).add_(of_found, alpha=2).add_(of_true)
            true.mul_(2).add_(of_true)
        # Each pixel is counted twice, by its predicted and by its true class, with what else is known of it: as adding
        # up by class is what takes the time. One more place takes what is ignored, and two the targets of no class.
        kinds = 2 if near is None else 8
        by_found = tally(found.masked_fill_(ignored, kinds * classes), kinds * classes + 1)[:, :-1]
        kinds_of_true = 1 if near is None else 2
        by_true = tally(true.masked_fill_(ignored, kinds_of_true * (classes + 2)), kinds_of_true * (classes + 2) + 1)
        by_found = by_found.reshape(count, classes, 2, kinds // 2)
        by_true = by_true[:, :-1].reshape(count, classes + 2, kinds_of_true)
        self.state["outside"] += by_true[:, 0].sum() + by_true[:, -1].sum()
        by_true = by_true[:, 1:-1]
        parts = [torch.stack([by_found[:, :, 1].sum(dim=2), by_found.sum(dim=(2, 3)), by_true.sum(dim=2)])]
        if near is not None:
            # The last axis: near no boundary, one of a true region, one of a predicted region, both.
            parts.append(torch.stack([by_found[:, :, 1, 3], by_found[..., 2:].sum(dim=(2, 3)), by_true[..., 1]]))
        return torch.stack(parts)

    def _count_labels(self, predicted: Tensor, target: Tensor, ignored: Tensor, near: Tensor | None) -> Tensor:
        """Return the same of maps of 0 and 1, [N, C, ...]."""
        self.state["outside"] += (~ignored & (target != 0) & (target != 1)).sum()
        masks = torch.stack([predicted == 1, target == 1]) & ~ignored
        several = [masks] if near is None else [masks, masks & near]
        parts = [torch.stack([found & true, found, true]).flatten(3).sum(dim=3) for found, true in several]
        return torch.stack(parts)

    def _add(self, parts: Tensor) -> Tensor:
        """Add hits, predicted and true pixels, [1 or 2, 3, N, C]; return the means of these images."""
        hits, predicted, true = parts.unbind(dim=1)
        union = predicted + true - hits
        self.state["pixels"] += torch.stack([hits, union], dim=1).sum(dim=2)
        batch = self._sum_values(hits.double(), (predicted + true).double(), union.double(), true > 0)
        self.state["sums"] += batch["sums"]
        self.state["counts"] += batch["counts"]
        return image_means(batch)

    def _sum_values(self, hits: Tensor, either: Tensor, union: Tensor, is_true: Tensor) -> dict[str, Tensor]:
        overlaps = torch.cat([hits[:1] / union[:1], 2 * hits[:1] / either[:1], hits[1:] / union[1:]])  # [K, N, C]
        if self.without_truth == "skip":
            counted = is_true[:1].expand_as(overlaps)
        else:
            overlaps = torch.where(either[:1] == 0, 1.0, overlaps)
            counted = torch.ones_like(overlaps, dtype=torch.bool)
        # An image without a value has 0 / 0, whose NaN must not reach the sums.
        overlaps = torch.where(counted, overlaps, 0.0)
        of_image = counted.sum(dim=2)
        # The mean of means: each image weighs the same, however many classes are in it.
        own = overlaps.sum(dim=2) / of_image.clamp(min=1)
        return {
            "sums": torch.cat([overlaps.sum(dim=1), own.sum(dim=1, keepdim=True)], dim=1),
            "counts": torch.cat([counted.sum(dim=1), (of_image > 0).sum(dim=1, keepdim=True)], dim=1),
        }


def tally(places: Tensor, count: int) -> Tensor:
    """Return how often each place from 0 to ``count`` - 1 is in each row of [N, P]: int64, [N, count]."""
    # Not by torch.bincount, which waits for a GPU.
    return places.new_zeros((len(places), count)).scatter_add_(1, places, places.new_ones(()).expand_as(places))


def image_means(state: Mapping[str, Tensor]) -> Tensor:
    """Return the means over images, float64, [K, C + 1]: of each overlap and class, and of the images' own.

    It is NaN where no image has a value.
    """
    return state["sums"] / state["counts"]


def pooled_overlaps(state: Mapping[str, Tensor]) -> Tensor:
    """Return the IoU of each class over all images together, float64, [1 or 2, C]: of regions, and of boundaries.

    It is NaN where a class is neither true nor predicted.
    """
    return state["pixels"][:, 0].double() / state["pixels"][:, 1]
