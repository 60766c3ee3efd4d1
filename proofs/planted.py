"""Images of noise with planted evidence: a patch at any place, whose look alone decides the class."""

from dataclasses import dataclass

import torch
from torch import Tensor

SIDE = 64  # pixels of an image
LOOKS = ("red", "blue", "rows", "columns")
SMALLEST, LARGEST = 16, 24  # pixels of a patch

_PERIOD = 4  # pixels of a stripe and its gap


@dataclass(frozen=True)
class Planted:
    """Images and what was planted in them.

    Attributes:
        images: [N, 3, SIDE, SIDE], noise of deviation 0.5 around 0, and the patch on top of it.
        labels: [N], numbers of ``LOOKS``.
        boxes: [N, 4], pixels: left, top, right and bottom of the patch.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor

    @property
    def masks(self) -> Tensor:
        """Number of the look plus 1 where the patch is, 0 elsewhere, [N, SIDE, SIDE]."""
        places = torch.arange(SIDE)
        left, top, right, bottom = (edge[:, None] for edge in self.boxes.T)
        columns, rows = (places >= left) & (places < right), (places >= top) & (places < bottom)
        return (rows[:, :, None] & columns[:, None, :]) * (self.labels + 1)[:, None, None]


def plant(count: int, chance: torch.Generator) -> Planted:
    """Return ``count`` images, all classes being equally likely."""
    images = torch.randn(count, 3, SIDE, SIDE, generator=chance) / 2
    labels = torch.randint(len(LOOKS), (count,), generator=chance)
    sides = torch.randint(SMALLEST, LARGEST + 1, (count,), generator=chance)
    corners = (torch.rand(count, 2, generator=chance) * (SIDE + 1 - sides)[:, None]).long()
    boxes = torch.cat([corners, corners + sides[:, None]], dim=1)
    for image, label, (left, top, right, bottom) in zip(images, labels.tolist(), boxes.tolist(), strict=True):
        image[:, top:bottom, left:right] += _look(label, bottom - top)
    return Planted(images, labels, boxes)


def _look(label: int, side: int) -> Tensor:
    """Return what is added to a patch, [3, side, side]."""
    if LOOKS[label] in ("red", "blue"):
        colour = [1.5, 0.0, 0.0] if LOOKS[label] == "red" else [0.0, 0.0, 1.5]
        return torch.tensor(colour)[:, None, None].expand(3, side, side)
    stripes = (torch.arange(side) % _PERIOD < _PERIOD // 2) * 3.0 - 1.5
    return (stripes[:, None] if LOOKS[label] == "rows" else stripes[None, :]).expand(3, side, side)
