"""Scale images to the scale of training, and predictions back to the size of the image."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.files.image_windows import OpenImage
from .transform import Place


class ScaledImage:
    """An image that is scaled window by window: by area means where it shrinks, otherwise linearly.

    Args:
        image: the image to scale.
        scale: the factor for its sides, which are rounded.
    """

    def __init__(self, image: OpenImage, scale: float):
        self.image = image
        self.height, self.width = (max(1, round(side * scale)) for side in (image.height, image.width))

    @property
    def georeference(self) -> Mapping[str, Any]:
        return {}  # a mask has the size of the original image, and its georeference

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        first_row, rows = _pixel_weights(top, height, self.image.height, self.height)
        first_column, columns = _pixel_weights(left, width, self.image.width, self.width)
        window = self.image.read(first_row, first_column, rows.shape[1], columns.shape[1]).astype(np.float32)
        # Both filters are separable: rows first, then columns.
        shrunk = np.tensordot(rows, window, (1, 0))
        scaled = np.tensordot(columns, shrunk, (1, 1)).transpose(1, 0, 2)
        return np.ascontiguousarray((scaled + 0.5).clip(0, 255).astype(np.uint8))


def _pixel_weights(start: int, count: int, length: int, scaled_length: int) -> tuple[int, np.ndarray]:
    """Return the first source pixel that counts, and the weights [count, n] of it and the following ones."""
    zoom = length / scaled_length
    places = np.arange(start, start + count)
    if zoom > 1:
        begins, ends = places * zoom, np.minimum((places + 1) * zoom, length)
    else:  # the tent of linear interpolation; beyond the border, the border's pixels are repeated
        centres = ((places + 0.5) * zoom - 0.5).clip(0, length - 1)
        begins, ends = centres, centres + 1
    first, last = int(begins[0]), min(length, int(np.ceil(ends[-1])))
    pixels = np.arange(first, last)
    overlap = np.minimum(pixels + 1, ends[:, None]) - np.maximum(pixels, begins[:, None])
    overlap = overlap.clip(0, None)
    return first, (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


class ArrayImage:
    """An image in memory.

    Args:
        pixels: [H, W, C].
    """

    def __init__(self, pixels: np.ndarray):
        self.pixels = np.ascontiguousarray(pixels)
        self.height, self.width = self.pixels.shape[:2]

    @property
    def georeference(self) -> Mapping[str, Any]:
        return {}

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self.pixels[top : top + height, left : left + width]


def resize_bands(bands: Iterator[Tensor], place: Place, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yield bands of values at the size of the original image, [C, h, W], interpolated linearly as torch does.

    Args:
        bands: values at the size that the model was given, [C, h, w], from the top.
        place: where the image lies in them.
        size: of the original image, (H, W).
    """
    if (place.height, place.width) == size and place.top == place.left == 0:
        yield from bands
        return
    height, width = size
    kept: Tensor | None = None
    first, done = 0, 0  # the row that ``kept`` begins with, and the number of image rows that were yielded
    for band in bands:
        columns = _interpolate(band, *_source_pixels(0, width, width, place.width, place.left, band.device), dim=2)
        kept = columns if kept is None else torch.cat([kept, columns], dim=1)
        # A row of the image can be computed once both source rows around it have arrived.
        low, high, part = _source_pixels(done, height, height, place.height, place.top, band.device)
        count = int((high < first + kept.shape[1]).sum())
        if count:
            yield _interpolate(kept, low[:count] - first, high[:count] - first, part[:count], dim=1)
            done += count
        needed = int(low[count]) if count < len(low) else first + kept.shape[1]
        needed = min(needed, first + kept.shape[1])
        kept, first = kept[:, needed - first :], needed


def _source_pixels(
    start: int, stop: int, length: int, source_length: int, offset: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two source pixels around each pixel of the image, and the weight of the second."""
    # In float64: in float32, positions in an image of 100,000 pixels would be off by hundredths of a pixel.
    pixels = torch.arange(start, stop, dtype=torch.float64)
    places = ((pixels + 0.5) * (source_length / length) - 0.5).clamp(0, source_length - 1)
    low = places.floor().long()
    high = (low + 1).clamp(max=source_length - 1)
    part = (places - low).float()
    return (low + offset).to(device), (high + offset).to(device), part.to(device)


def _interpolate(values: Tensor, low: Tensor, high: Tensor, part: Tensor, *, dim: int) -> Tensor:
    weight = part[:, None] if dim == 1 else part
    return values.index_select(dim, low).lerp(values.index_select(dim, high), weight.to(values.dtype))
