"""What the model is trained and validated on: random crops of tiles, and windows that cover tiles."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from assay.runner import Augmented, Items, Transform

from .tiles import IGNORED, Tile, read_window

UNLABELLED = 254
"""In ``labels``: the model's own prediction is to stand in for the truth."""

_PARTS = {"image": "image", "mask": "target"}


class Crops(Augmented):
    """Random crops of tiles: where a crop lies follows, as its augmentation does, from (seed, epoch, index).

    An item holds ``image`` [3, S, S], ``target`` [S, S] with 0, 1 and ``IGNORED``, ``labels`` (the target, and
    ``UNLABELLED`` where there is no truth) and ``sample_id``. An epoch has as many crops of a tile as cover it once.

    Args:
        tiles: to cut from.
        size: S, pixels.
        transform: albumentations; at its end a tensor.
        seed: of all chance.
        repeat: multiplies the number of crops.
        unlabelled: further tiles, without masks.
        start_epoch: from which on there are crops of them, counted from 1; before, the other tiles stand in.
    """

    def __init__(
        self,
        tiles: Sequence[Tile],
        size: int,
        transform: Transform,
        *,
        seed: int,
        repeat: int = 1,
        unlabelled: Sequence[Tile] = (),
        start_epoch: int = 1,
    ):
        self.size, self.start_epoch = size, start_epoch
        self.labelled, self.unlabelled = (
            [tile for tile in part for _ in range(len(_grid(tile, size)) * repeat)] for part in (tiles, unlabelled)
        )
        count = len(self.labelled) + len(self.unlabelled)
        super().__init__(Items(count, self._cut), transform, seed=seed, keys=_PARTS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return with_labels(super().__getitem__(index))

    def _cut(self, index: int) -> dict[str, Any]:
        place = index - len(self.labelled)
        is_labelled = place < 0 or self.epoch < self.start_epoch
        tile = self.labelled[index % len(self.labelled)] if is_labelled else self.unlabelled[place]
        rng = np.random.default_rng(self.seed_of(index, 1))
        top, left = (_start(side, self.size, rng) for side in (tile.height, tile.width))
        return {"sample_id": f"{tile.name} {top} {left}", **read_window(tile, top, left, self.size, self.size)}


class Windows(Augmented):
    """All windows of tiles, row by row: each pixel of a tile counts once, those of the margin are ``IGNORED``.

    An item holds what one of ``Crops`` does, and the tile's number in the list as ``tile``.

    Args:
        tiles: to cut up.
        size: of a window without its margin, pixels.
        margin: pixels around it that the model sees beside.
        transform: albumentations; at its end a tensor.
    """

    def __init__(self, tiles: Sequence[Tile], size: int, margin: int, transform: Transform):
        self.tiles, self.size, self.margin = list(tiles), size, margin
        self.places = [(number, *place) for number, tile in enumerate(tiles) for place in _grid(tile, size)]
        super().__init__(Items(len(self.places), self._cut), transform, keys=_PARTS)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return with_labels(super().__getitem__(index))

    def _cut(self, index: int) -> dict[str, Any]:
        number, top, left = self.places[index]
        tile, side = self.tiles[number], self.size + 2 * self.margin
        parts = read_window(tile, top - self.margin, left - self.margin, side, side)
        inner = slice(self.margin, self.margin + self.size)
        target = np.full_like(parts["target"], IGNORED)
        target[inner, inner] = parts["target"][inner, inner]
        return {"sample_id": f"{tile.name} {top} {left}", "tile": number, "image": parts["image"], "target": target}


def with_labels(item: dict[str, Any]) -> dict[str, Any]:
    """Add ``labels``: the target, and ``UNLABELLED`` for a picture without any truth."""
    target = item["target"]
    has_truth = target.numpy().min() < IGNORED
    return item | {"labels": target if has_truth else torch.full_like(target, UNLABELLED)}


def _grid(tile: Tile, size: int) -> list[tuple[int, int]]:
    return [(top, left) for top in range(0, tile.height, size) for left in range(0, tile.width, size)]


def _start(side: int, size: int, rng: np.random.Generator) -> int:
    """Return where a crop begins; in the middle if the tile is the smaller one."""
    return int(rng.integers(side - size + 1)) if side >= size else (side - size) // 2
