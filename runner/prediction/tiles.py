"""Cut an image into overlapping tiles, and merge predictions for them, one band of rows at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from pytorch_toolbelt.inference.tiles import ImageSlicer, compute_pyramid_patch_weight_loss
from torch import Tensor

from ..data.files.image_windows import OpenImage

_TRIMMED = 4  # a tile leaves the outer quarter of an overlap to its neighbour


@dataclass(frozen=True)
class Tile:
    """A window of the image, and the part of it whose predictions are used.

    Attributes:
        top: first row of the window.
        left: first column of the window.
        kept: the rows and columns of the window that are used.
    """

    top: int
    left: int
    kept: tuple[slice, slice]


class TileGrid:
    """Tiles of one size that cover an image and lie within it.

    toolbelt's ``ImageSlicer`` places them, and those at the borders are moved inside, so that the model sees no
    padding. Only an image smaller than a tile is padded, by reflection. Towards a neighbour, the outer quarter of the
    overlap is discarded, because the border of the tile may have influenced it. The rest is weighted by toolbelt's
    pyramid, which fades a tile out. The result equals that of the whole image where the model's receptive field reaches
    no farther than a quarter of the overlap, and has no seams where it does.

    Args:
        height: of the image.
        width: of the image.
        tile: side of a tile; an image that is smaller has tiles of its own size.
        overlap: of neighbours, less than ``tile``; at the image's borders it may be larger.
        divisor: sides of a tile, as the model is given it, are multiples of this.
        is_square: whether tiles must be square, also of an image that is smaller.

    Example:
        >>> grid = TileGrid(100, 150, tile=64, overlap=16, divisor=32)
        >>> [(tile.top, tile.left) for row in grid.rows() for tile in row]
        [(0, 0), (0, 43), (0, 86), (36, 0), (36, 43), (36, 86)]
    """

    def __init__(self, height: int, width: int, tile: int, overlap: int, divisor: int, *, is_square: bool = True):
        self.shape = min(tile, height), min(tile, width)
        self.sides = tuple(-(-side // divisor) * divisor for side in self.shape)
        if is_square:
            self.sides = (max(self.sides),) * 2
        step = tuple(max(1, side - overlap) for side in self.shape)
        slicer = ImageSlicer((height, width), self.shape, step)
        lefts, tops = slicer.bbox_crops[:, 0], slicer.bbox_crops[:, 1]
        self.tops = _clip_starts(tops, height - self.shape[0])
        self.lefts = _clip_starts(lefts, width - self.shape[1])
        self.trim = overlap // _TRIMMED

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def rows(self) -> Iterator[list[Tile]]:
        """Yield the tiles row by row, from the top."""
        for top in self.tops:
            rows = self._kept_part(top, self.tops, self.shape[0])
            yield [Tile(top, left, (rows, self._kept_part(left, self.lefts, self.shape[1]))) for left in self.lefts]

    def _kept_part(self, start: int, starts: list[int], length: int) -> slice:
        return slice(self.trim if start != starts[0] else 0, length - self.trim if start != starts[-1] else length)

    def read(self, image: OpenImage, tile: Tile) -> np.ndarray:
        """Return a tile as the model is given it, [*sides, C], with the image's own pixel values."""
        height, width = self.shape
        window = image.read(tile.top, tile.left, height, width)
        if window.shape[:2] == self.sides:
            return window
        below, right = self.sides[0] - height, self.sides[1] - width
        filled: np.ndarray = cv2.copyMakeBorder(window, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        return filled.reshape(*self.sides, -1)  # OpenCV drops the axis of a single channel


def _clip_starts(starts: np.ndarray, last: int) -> list[int]:
    return sorted({int(start) for start in starts.clip(0, last)})  # two tiles may coincide after clipping


@lru_cache(maxsize=16)
def _pyramid_weights(height: int, width: int, device: torch.device) -> Tensor:
    weight, _, _ = compute_pyramid_patch_weight_loss(height, width)
    return torch.from_numpy(weight.astype(np.float32)).to(device)


class BandMerger:
    """Weighted means of the predictions for tiles, in a buffer as high as a tile.

    Args:
        grid: the tiles.
        width: of the image.
        channels: of the predictions.
        device: where they are merged.
    """

    def __init__(self, grid: TileGrid, width: int, channels: int, device: torch.device):
        self.top = 0
        self.sums = torch.zeros(channels, grid.shape[0], width, device=device)
        self.weights = torch.zeros(grid.shape[0], width, device=device)

    def add(self, tile: Tile, values: Tensor) -> None:
        """Add predictions for a tile, [channels, height, width]; the tile must not use rows above ``top``."""
        rows, columns = tile.kept
        here = (
            slice(tile.top - self.top + rows.start, tile.top - self.top + rows.stop),
            slice(tile.left + columns.start, tile.left + columns.stop),
        )
        weight = _pyramid_weights(rows.stop - rows.start, columns.stop - columns.start, self.sums.device)
        self.sums[:, *here] += values[:, *tile.kept] * weight
        self.weights[here] += weight

    def take(self, bottom: int) -> Tensor:
        """Return the rows above ``bottom``, [channels, h, width], to which no later tile adds, and drop them."""
        count = bottom - self.top
        merged = self.sums[:, :count] / self.weights[:count]
        for values in (self.sums, self.weights):
            rest = values[..., count:, :].clone()  # a copy, as source and target overlap
            values.zero_()
            values[..., : rest.shape[-2], :] = rest
        self.top = bottom
        return merged
