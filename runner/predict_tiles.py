"""An image cut to tiles that overlap, and what a model says of them put together again, a band of rows at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from pytorch_toolbelt.inference.tiles import ImageSlicer, compute_pyramid_patch_weight_loss
from torch import Tensor

from .windows import OpenImage

_TRIMMED = 4  # of the overlap with a neighbour, a tile's outer quarter is left to the neighbour


@dataclass(frozen=True)
class Tile:
    """A window of the image, and the part of it that counts.

    Attributes:
        top: of the window in the image.
        left: likewise.
        kept: the rows and columns of the window that count.
    """

    top: int
    left: int
    kept: tuple[slice, slice]


class TileGrid:
    """Tiles of one size that cover an image and lie within it.

    They are placed by toolbelt's ``ImageSlicer``, moved inside at the borders, so that the model sees the image's own
    borders and nothing made up; only an image that is smaller than a tile is filled up, by its mirror image. Towards a
    neighbour, a quarter of the overlap does not count: what the model says there may follow from the tile's border.
    The rest is weighted by toolbelt's pyramid, which fades a tile out. So the result is exactly that of the whole image
    where the model sees no farther than a quarter of the overlap, and has no seams where it does.

    Args:
        height: of the image.
        width: likewise.
        tile: side of a tile; the sides of an image that is smaller.
        overlap: of neighbours, less than ``tile``; at the image's borders it may be more.
        divisor: what the sides of a tile that the model is given are multiples of.
        is_square: whether a tile has to be square, also of an image that is smaller.
    """

    def __init__(self, height: int, width: int, tile: int, overlap: int, divisor: int, *, is_square: bool = True):
        self.shape = min(tile, height), min(tile, width)
        self.sides = tuple(-(-side // divisor) * divisor for side in self.shape)
        if is_square:
            self.sides = (max(self.sides),) * 2
        step = tuple(max(1, side - overlap) for side in self.shape)
        slicer = ImageSlicer((height, width), self.shape, step)
        lefts, tops = slicer.bbox_crops[:, 0], slicer.bbox_crops[:, 1]
        self.tops = _inside(tops, height - self.shape[0])
        self.lefts = _inside(lefts, width - self.shape[1])
        self.trim = overlap // _TRIMMED

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def rows(self) -> Iterator[list[Tile]]:
        """Yield the tiles by rows, from the top."""
        for top in self.tops:
            rows = self._kept(top, self.tops, self.shape[0])
            yield [Tile(top, left, (rows, self._kept(left, self.lefts, self.shape[1]))) for left in self.lefts]

    def _kept(self, start: int, starts: list[int], length: int) -> slice:
        return slice(self.trim if start != starts[0] else 0, length - self.trim if start != starts[-1] else length)

    def read(self, image: OpenImage, tile: Tile) -> np.ndarray:
        """Return what the model is given of a tile, [*sides, C], as the image has its pixels."""
        height, width = self.shape
        window = image.read(tile.top, tile.left, height, width)
        if window.shape[:2] == self.sides:
            return window
        below, right = self.sides[0] - height, self.sides[1] - width
        filled: np.ndarray = cv2.copyMakeBorder(window, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        return filled.reshape(*self.sides, -1)  # of a single channel OpenCV drops the axis


def _inside(starts: np.ndarray, last: int) -> list[int]:
    return sorted({int(start) for start in starts.clip(0, last)})


@lru_cache(maxsize=16)
def _pyramid(height: int, width: int, device: torch.device) -> Tensor:
    weight, _, _ = compute_pyramid_patch_weight_loss(height, width)
    return torch.from_numpy(weight.astype(np.float32)).to(device)


class BandMerger:
    """Weighted means of what tiles say, of as many rows as a tile has.

    Args:
        grid: the tiles.
        width: of the image.
        channels: of what is merged.
        device: where it is merged.
    """

    def __init__(self, grid: TileGrid, width: int, channels: int, device: torch.device):
        self.top = 0
        self.sums = torch.zeros(channels, grid.shape[0], width, device=device)
        self.weights = torch.zeros(grid.shape[0], width, device=device)

    def add(self, tile: Tile, values: Tensor) -> None:
        """Add what a tile says, [channels, height, width] of the window; rows above ``top`` must not count."""
        rows, columns = tile.kept
        here = (
            slice(tile.top - self.top + rows.start, tile.top - self.top + rows.stop),
            slice(tile.left + columns.start, tile.left + columns.stop),
        )
        weight = _pyramid(rows.stop - rows.start, columns.stop - columns.start, self.sums.device)
        self.sums[:, *here] += values[:, *tile.kept] * weight
        self.weights[here] += weight

    def take(self, bottom: int) -> Tensor:
        """Return the rows above ``bottom``, [channels, h, width], to which no tile adds any more."""
        count = bottom - self.top
        merged = self.sums[:, :count] / self.weights[:count]
        for values in (self.sums, self.weights):
            rest = values[..., count:, :].clone()
            values.zero_()
            values[..., : rest.shape[-2], :] = rest
        self.top = bottom
        return merged
