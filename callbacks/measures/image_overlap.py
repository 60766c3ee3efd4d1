"""How far predicted and true regions overlap, image by image."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from .measure import Reductions

OVERLAPS = ("iou", "dice")
WITHOUT_TRUTH = ("skip", "match")


class ImageOverlap:
    """Means over images of the overlap of each class, over a loader and batch by batch.

    Of an image and a class it is ``hits / (predicted + true - hits)`` (``iou``, the Jaccard index) or ``2 * hits /
    (predicted + true)`` (``dice``, F1 of pixels), each a number of pixels. An image's own value is the mean over the
    classes that have one. This is how pytorch-toolbelt averages, but for an epsilon of 1e-7 of its own.

    The state lives on the device and is valid before the first update: ``sums`` and ``counts``, [2, C + 1], of each
    overlap and class, and in the last column of the images' own values, what they add up to and how many there are;
    ``outside``, how many targets were no class.

    Args:
        task: ``multiclass``, ``binary`` or ``multilabel``.
        num_classes: number of classes or labels of the output; 2 for ``binary``.
        classes: the C ones that count; of ``binary`` class 1.
        ignore_index: target value that is left out.
        without_truth: what an image has that holds no true pixel of a class: ``skip``, no value; ``match``, 1 where
            none is predicted either, and 0 where one is.
        device: where the tensors are.
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
    def update(self, decided: Tensor, target: Tensor) -> Tensor:
        """Add one batch, and return its own means as ``image_means`` does.

        Args:
            decided: int64, [N, ...] class numbers, or for ``multilabel`` [N, C, ...] 0 and 1.
            target: likewise; see ``decide_targets`` for those that are soft.
        """
        wanted = torch.ones_like(target) if self.ignore_index is None else (target != self.ignore_index).long()
        if self.task == "multilabel":
            parts = self._per_label(decided, target, wanted)
        else:
            parts = self._per_class(*(part.reshape(len(part), -1) for part in (decided, target, wanted)))
        if len(self.classes) < self.num_classes:
            parts = torch.stack([parts[:, :, number] for number in self.classes], dim=2)
        batch = self._means(parts.double())
        self.state["sums"] += batch["sums"]
        self.state["counts"] += batch["counts"]
        return image_means(batch)

    def _per_class(self, decided: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        """Return hits, predicted and true pixels, [3, N, C]."""
        classes = self.num_classes
        # One place more at both ends takes the targets that are no class.
        places = decided.new_zeros((3, len(decided), classes + 2))
        found = places[:, :, 1:-1]
        found[0].scatter_add_(1, decided, (decided == target) * wanted)
        found[1].scatter_add_(1, decided, wanted)
        places[2].scatter_add_(1, target.clamp(-1, classes) + 1, wanted)
        self.state["outside"] += places[2, :, 0].sum() + places[2, :, -1].sum()
        return found

    def _per_label(self, decided: Tensor, target: Tensor, wanted: Tensor) -> Tensor:
        true = (target == 1).long() * wanted
        self.state["outside"] += (wanted * ((target != 0) & (target != 1))).sum()
        decided = decided * wanted
        return torch.stack([part.reshape(*part.shape[:2], -1).sum(dim=2) for part in (decided * true, decided, true)])

    def _means(self, parts: Tensor) -> dict[str, Tensor]:
        hits, predicted, true = parts.unbind()
        both = torch.stack([hits / (predicted + true - hits), 2 * hits / (predicted + true)])  # [2, N, C]
        if self.without_truth == "skip":
            counted = (true > 0).expand_as(both)
        else:
            both = torch.where(predicted + true == 0, 1.0, both)
            counted = torch.ones_like(both, dtype=torch.bool)
        both = torch.where(counted, both, 0.0)
        of_image = counted.sum(dim=2)
        own = both.sum(dim=2) / of_image.clamp(min=1)
        return {
            "sums": torch.cat([both.sum(dim=1), own.sum(dim=1, keepdim=True)], dim=1),
            "counts": torch.cat([counted.sum(dim=1), (of_image > 0).sum(dim=1, keepdim=True)], dim=1),
        }


def image_means(state: Mapping[str, Tensor]) -> Tensor:
    """Return the means over images, float64, [2, C + 1]: of each of ``OVERLAPS`` and class, and of the images' own.

    What no image has a value of is NaN.
    """
    return state["sums"] / state["counts"]
