"""Images at the scale of training, and what is said of them back at their own size."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .predict_transform import Place
from .windows import OpenImage


class ScaledImage:
    """An image, scaled as it is read by windows: by the mean over areas where it shrinks, else linearly.

    Args:
        image: to be scaled.
        scale: its sides are multiplied by this, and rounded.
    """

    def __init__(self, image: OpenImage, scale: float):
        self.image = image
        self.height, self.width = (max(1, round(side * scale)) for side in (image.height, image.width))

    @property
    def georeference(self) -> Mapping[str, Any]:
        return {}

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        first_row, rows = _weights(top, height, self.image.height, self.height)
        first_column, columns = _weights(left, width, self.image.width, self.width)
        window = self.image.read(first_row, first_column, rows.shape[1], columns.shape[1]).astype(np.float32)
        shrunk = np.tensordot(rows, window, (1, 0))
        scaled = np.tensordot(columns, shrunk, (1, 1)).transpose(1, 0, 2)
        return np.ascontiguousarray((scaled + 0.5).clip(0, 255).astype(np.uint8))


def _weights(start: int, count: int, length: int, scaled_length: int) -> tuple[int, np.ndarray]:
    """Return the first pixel that counts, and the weights [count, n] of it and the following."""
    zoom = length / scaled_length
    places = np.arange(start, start + count)
    if zoom > 1:
        begins, ends = places * zoom, np.minimum((places + 1) * zoom, length)
    else:  # the tent of linear interpolation, of which the parts beyond the border are those of the border
        centres = ((places + 0.5) * zoom - 0.5).clip(0, length - 1)
        begins, ends = centres, centres + 1
    first, last = int(begins[0]), min(length, int(np.ceil(ends[-1])))
    pixels = np.arange(first, last)
    overlap = np.minimum(pixels + 1, ends[:, None]) - np.maximum(pixels, begins[:, None])
    overlap = overlap.clip(0, None)
    return first, (overlap / overlap.sum(axis=1, keepdims=True)).astype(np.float32)


class ArrayImage:
    """An image in memory as the model takes it.

    Args:
        image: [C, h, w].
    """

    def __init__(self, image: Tensor):
        self.pixels = np.ascontiguousarray(image.float().permute(1, 2, 0).numpy())
        self.height, self.width = self.pixels.shape[:2]

    @property
    def georeference(self) -> Mapping[str, Any]:
        return {}

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return self.pixels[top : top + height, left : left + width]


def restored(bands: Iterator[Tensor], place: Place, size: tuple[int, int]) -> Iterator[Tensor]:
    """Yield bands of values at an image's own size, [C, h, W], interpolated linearly as torch does.

    Args:
        bands: values of the image as the model is given it, [C, h, w], from the top.
        place: of the image in them.
        size: of the image, (H, W).
    """
    if (place.height, place.width) == size and place.top == place.left == 0:
        yield from bands
        return
    height, width = size
    kept: Tensor | None = None
    first, done = 0, 0  # the row that ``kept`` begins with, and the rows of the image that were yielded
    for band in bands:
        columns = _interpolated(band, *_places(0, width, width, place.width, place.left, band.device), dim=2)
        kept = columns if kept is None else torch.cat([kept, columns], dim=1)
        low, high, part = _places(done, height, height, place.height, place.top, band.device)
        count = int((high < first + kept.shape[1]).sum())
        if count:
            yield _interpolated(kept, low[:count] - first, high[:count] - first, part[:count], dim=1)
            done += count
        needed = int(low[count]) if count < len(low) else first + kept.shape[1]
        needed = min(needed, first + kept.shape[1])
        kept, first = kept[:, needed - first :], needed


def _places(
    start: int, stop: int, length: int, source_length: int, offset: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Return, of pixels of the image, the two between which they lie in the source, and how far from the first."""
    pixels = torch.arange(start, stop, dtype=torch.float64)
    places = ((pixels + 0.5) * (source_length / length) - 0.5).clamp(0, source_length - 1)
    low = places.floor().long()
    high = (low + 1).clamp(max=source_length - 1)
    part = (places - low).float()
    return (low + offset).to(device), (high + offset).to(device), part.to(device)


def _interpolated(values: Tensor, low: Tensor, high: Tensor, part: Tensor, *, dim: int) -> Tensor:
    weight = part[:, None] if dim == 1 else part
    return values.index_select(dim, low).lerp(values.index_select(dim, high), weight.to(values.dtype))
