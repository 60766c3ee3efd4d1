"""IoU and Dice of predicted and true regions, averaged over images."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from .measure import Reductions

OVERLAPS = ("iou", "dice")
WITHOUT_TRUTH = ("skip", "match")


class ImageOverlap:
    """Means over images of the overlap of each class, over a loader and batch by batch.

    For an image and a class it is ``hits / (predicted + true - hits)`` (``iou``, the Jaccard index) or ``2 * hits /
    (predicted + true)`` (``dice``, F1 of pixels), in numbers of pixels. An image's own value is the mean over the
    classes that have one. pytorch-toolbelt averages in the same way, but adds an epsilon of 1e-7.

    The state lives on the device and is valid before the first update. ``sums`` and ``counts``, [2, C + 1], hold for
    each overlap and class the sum of its values and their number, and in the last column those of the images' own
    values. ``outside`` is the number of targets that were no class.

    Args:
        task: ``multiclass``, ``binary`` or ``multilabel``.
        num_classes: number of classes or labels of the output; 2 for ``binary``.
        classes: the C ones that count; of ``binary`` class 1.
        ignore_index: target value that is left out.
        without_truth: the value of an image without a true pixel of a class: ``skip``, none; ``match``, 1 where none is
            predicted either, and 0 where one is.
        device: where the tensors are.

    Example:
        >>> measure = ImageOverlap("multiclass", num_classes=2, classes=[1])
        >>> truth = torch.tensor([[[1, 1], [0, 0]]])
        >>> batch = measure.update(predicted=torch.tensor([[[1, 0], [0, 0]]]), target=truth)
        >>> iou, dice = image_means(measure.state)[:, -1].tolist()
        >>> round(iou, 3), round(dice, 3)
        (0.5, 0.667)
    """

    reductions: ClassVar[Reductions] = {"sums": "sum", "counts": "sum", "outside": "sum"}

    def __init__(
        self,
        task: str,
        num_classes: int,
        classes: Sequence[int],
        ignore_index: int | None = None,
        without_truth: str = "skip",
        device: torch.device | str = "cpu",
    ):
        self.task, self.num_classes = task, num_classes
        self.ignore_index, self.without_truth = ignore_index, without_truth
        self.classes = list(classes)
        shape = (len(OVERLAPS), len(self.classes) + 1)
        self.state = {
            "sums": torch.zeros(shape, dtype=torch.float64, device=device),
            "counts": torch.zeros(shape, dtype=torch.int64, device=device),
            "outside": torch.zeros((), dtype=torch.int64, device=device),
        }

    @torch.no_grad()
    def update(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Add one batch, and return its own means as ``image_means`` does.

        Args:
            predicted: int64, [N, ...] class numbers, or for ``multilabel`` [N, C, ...] 0 and 1.
            target: the same; see ``decide_targets`` for soft ones.
        """
        wanted = torch.ones_like(target) if self.ignore_index is None else (target != self.ignore_index).long()
        if self.task == "multilabel":
            parts = self._per_label(predicted, target, wanted)
        else:
            parts = self._per_class(*(part.reshape(len(part), -1) for part in (predicted, target, wanted)))
        # By slices, as an index tensor would be copied to the device, for which the step waits.
        if len(self.classes) < self.num_classes:
            parts = torch.stack([parts[:, :, number] for number in self.classes], dim=2)
        batch = self._sum_values(parts.double())
        self.state["sums"] += batch["sums"]
        self.state["counts"] += batch["counts"]
        return image_means(batch)

    def _per_class(self, predicted: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        """Return hits, predicted and true pixels, [3, N, C]."""
        classes = self.num_classes
        # One more place at both ends takes the targets that are no class.
        places = predicted.new_zeros((3, len(predicted), classes + 2))
        found = places[:, :, 1:-1]
        found[0].scatter_add_(1, predicted, (predicted == target) * wanted)
        found[1].scatter_add_(1, predicted, wanted)
        places[2].scatter_add_(1, target.clamp(-1, classes) + 1, wanted)
        self.state["outside"] += places[2, :, 0].sum() + places[2, :, -1].sum()
        return found

    def _per_label(self, predicted: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        true = (target == 1).long() * wanted
        self.state["outside"] += (wanted * ((target != 0) & (target != 1))).sum()
        predicted = predicted * wanted
        return torch.stack(
            [part.reshape(*part.shape[:2], -1).sum(dim=2) for part in (predicted * true, predicted, true)]
        )

    def _sum_values(self, parts: Tensor) -> dict[str, Tensor]:
        hits, predicted, true = parts.unbind()
        both = torch.stack([hits / (predicted + true - hits), 2 * hits / (predicted + true)])  # [2, N, C]
        if self.without_truth == "skip":
            counted = (true > 0).expand_as(both)
        else:
            both = torch.where(predicted + true == 0, 1.0, both)
            counted = torch.ones_like(both, dtype=torch.bool)
        # An image without a value has 0 / 0, whose NaN must not reach the sums.
        both = torch.where(counted, both, 0.0)
        of_image = counted.sum(dim=2)
        # The mean of means: each image weighs the same, however many classes are in it.
        own = both.sum(dim=2) / of_image.clamp(min=1)
        return {
            "sums": torch.cat([both.sum(dim=1), own.sum(dim=1, keepdim=True)], dim=1),
            "counts": torch.cat([counted.sum(dim=1), (of_image > 0).sum(dim=1, keepdim=True)], dim=1),
        }


def image_means(state: Mapping[str, Tensor]) -> Tensor:
    """Return the means over images, float64, [2, C + 1]: of each of ``OVERLAPS`` and class, and of the images' own.

    It is NaN where no image has a value.
    """
    return state["sums"] / state["counts"]
