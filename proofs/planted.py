"""Generate images of noise with planted evidence: a patch at a random place, whose look alone decides the class."""

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

SIDE = 64  # pixels of an image
LOOKS = ("none", "red", "blue", "rows", "columns")
SMALLEST, LARGEST = 16, 24  # pixels of a patch

_DECOYS = ("green", "checks")
_NOISE, _CAST = 0.3, 0.05  # deviation of a pixel, and of the colour of an image
_PERIOD = 4  # pixels of a stripe and its gap
_STRENGTH = 1.5
_COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1)}


@dataclass(frozen=True)
class Planted:
    """Images and what was planted in them.

    Attributes:
        images: [N, 3, SIDE, SIDE], noise around a colour of the image, with the patches on top.
        labels: [N], numbers of ``LOOKS``; class 0 is an image without evidence.
        boxes: [N, 4], pixels: left, top, right and bottom of the patch; empty where there is none.
        decoys: [N, 4], the same of a patch that every image has and that is independent of the class.
        erased: the images without the evidence.
    """

    images: Tensor
    labels: Tensor
    boxes: Tensor
    decoys: Tensor
    erased: Tensor

    @property
    def masks(self) -> Tensor:
        """Number of the look where its patch is, 0 elsewhere, [N, SIDE, SIDE]."""
        places = torch.arange(SIDE)
        left, top, right, bottom = (edge[:, None] for edge in self.boxes.T)
        columns, rows = (places >= left) & (places < right), (places >= top) & (places < bottom)
        return (rows[:, :, None] & columns[:, None, :]) * self.labels[:, None, None]

    def __getitem__(self, which: Tensor) -> "Planted":
        return Planted(*(part[which] for part in (self.images, self.labels, self.boxes, self.decoys, self.erased)))


def plant(count: int, chance: torch.Generator) -> Planted:
    """Return ``count`` images, all classes being equally likely."""
    erased = torch.randn(count, 3, SIDE, SIDE, generator=chance) * _NOISE
    erased += torch.randn(count, 3, 1, 1, generator=chance) * _CAST
    labels = torch.randint(len(LOOKS), (count,), generator=chance)
    lures = torch.randint(len(_DECOYS), (count,), generator=chance)
    boxes, decoys = _boxes(count, chance)
    boxes[labels == 0] = 0
    # Decoys are in ``erased`` too: only the evidence differs between the two.
    _add(erased, decoys, [_DECOYS[number] for number in lures.tolist()])
    images = erased.clone()
    _add(images, boxes, [LOOKS[number] for number in labels.tolist()])
    return Planted(images, labels, boxes, decoys, erased)


def _boxes(count: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return two boxes per image that do not touch, each [N, 4]."""
    # Eight times as many pairs as needed are drawn, as those that touch are dropped.
    while True:
        sides = torch.randint(SMALLEST, LARGEST + 1, (8 * count, 2), generator=chance)
        corners = (torch.rand(8 * count, 2, 2, generator=chance) * (SIDE + 1 - sides)[..., None]).long()
        first, second = torch.cat([corners, corners + sides[..., None]], dim=2).unbind(dim=1)
        apart = ((first[:, :2] > second[:, 2:]) | (second[:, :2] > first[:, 2:])).any(dim=1)
        if apart.sum() >= count:
            return first[apart][:count], second[apart][:count]


def _add(images: Tensor, boxes: Tensor, looks: list[str]) -> None:
    for image, look, (left, top, right, bottom) in zip(images, looks, boxes.tolist(), strict=True):
        if look != "none":
            image[:, top:bottom, left:right] += _look(look)[:, top:bottom, left:right]


@cache
def _look(look: str) -> Tensor:
    """Return what is added where a patch is, [3, SIDE, SIDE]."""
    if look in _COLOURS:
        return _STRENGTH * torch.tensor(_COLOURS[look])[:, None, None].expand(3, SIDE, SIDE)
    stripes = (torch.arange(SIDE) % _PERIOD < _PERIOD // 2) * 2.0 - 1.0
    pattern = {"rows": stripes[:, None], "columns": stripes, "checks": stripes[:, None] * stripes}
    return _STRENGTH * pattern[look].expand(3, SIDE, SIDE)
