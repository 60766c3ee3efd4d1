"""What is wrong with the input of a training: its range, and the order of its labels."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..loader_state import stored_as

_TOLERANCE = 0.02  # bicubic scaling and colour changes overshoot a little
_SHARE = 0.001
_LEAST_SPREAD = 0.2
_LEAST_BATCHES = 3
_CHANCE = 1e-6
_AT_ONCE = 2**20  # values


@dataclass(frozen=True)
class Range:
    """The values of images, all channels together.

    Attributes:
        low: smallest finite value after the normalization was undone; 0 to 1 is what it should be.
        high: largest likewise.
        outside: share of the values that lie outside by more than a little, or are not finite.
        raw: smallest and largest finite value as the model sees them.
    """

    low: float
    high: float
    outside: float
    raw: tuple[float, float]

    @property
    def leaves(self) -> bool:
        """Whether the values leave 0 to 1, by more than augmentation explains."""
        return self.outside > _SHARE

    @property
    def not_normalized(self) -> bool:
        """Whether the images look as if nobody had normalized them: they fill 0 to 1 before anything is undone.

        Of images that were, some pixel is darker than the mean, so that their smallest value is below 0.
        """
        low, high = self.raw
        return low >= 0 and high <= 1 and high - low > _LEAST_SPREAD


def range_of(images: Sequence[np.ndarray], mean: np.ndarray, std: np.ndarray) -> Range | None:
    """Return the range of images, [C, H, W] or [H, W] each, of ``(x - mean) / std``; None where they are integers."""
    return range_of_extremes(extremes_of(images, mean, std), mean, std)


def range_of_extremes(found: Sequence[np.ndarray], mean: np.ndarray, std: np.ndarray) -> Range | None:
    """Return the range of images from the ``extremes`` of each; None where there are none."""
    if not found:
        return None
    low, high, fits, size = (np.stack([rows[index] for rows in found]) for index in range(4))
    outside = 1 - float(fits.sum() / size.sum())
    finite = low <= high
    if not finite.any():
        return Range(math.nan, math.nan, 1.0, (math.nan, math.nan))
    units = np.stack([raw * std.reshape(-1) + mean.reshape(-1) for raw in (low, high)])[:, finite]
    return Range(float(units.min()), float(units.max()), outside, (float(low.min()), float(high.max())))


def extremes_of(images: Sequence[np.ndarray], mean: np.ndarray, std: np.ndarray) -> list[np.ndarray]:
    """Return the ``extremes`` of each image of floating point."""
    floats = [np.ascontiguousarray(image) for image in images if np.issubdtype(image.dtype, np.floating)]
    return [extremes(torch.from_numpy(image), mean, std).numpy() for image in floats]


@torch.no_grad()
def extremes(image: Tensor, mean: np.ndarray, std: np.ndarray) -> Tensor:
    """Return what ``range_of_extremes`` needs of an image, without reading the device.

    Args:
        image: [C, H, W] or [H, W], floating point. It is looked at in parts, as copies of it would take much memory.
        mean: one number or [C].
        std: likewise.

    Returns:
        [4, C], float64: smallest and largest finite value (inf and -inf where there is none), the number of those that
        lie within 0 to 1 or a little outside after the normalization is undone, and the number of all.
    """
    channels = image.reshape(-1, *image.shape[-2:])
    low, high = _fitting(mean, std, len(channels))
    rows = max(1, _AT_ONCE // channels.shape[2])
    found = [_extremes_of(*one, rows) for one in zip(channels, low.tolist(), high.tolist(), strict=True)]
    return torch.stack(found, dim=1)


def _extremes_of(channel: Tensor, low: float, high: float, rows: int) -> Tensor:
    parts = []
    for band in channel.split(rows):
        finite = band.isfinite()
        least, most = band.where(finite, math.inf).amin(), band.where(finite, -math.inf).amax()
        fits = ((band >= low) & (band <= high)).sum()
        parts.append(torch.stack([least.double(), most.double(), fits.double()]))
    whole = torch.stack(parts)
    size = whole.new_full((), channel.numel())
    return torch.stack([whole[:, 0].amin(), whole[:, 1].amax(), whole[:, 2].sum(), size])


def _fitting(mean: np.ndarray, std: np.ndarray, channels: int) -> np.ndarray:
    """Return the values of each channel between which an image fits 0 to 1: [2, channels]."""
    with np.errstate(divide="ignore"):
        ends = [(end - mean.reshape(-1)) / std.reshape(-1) for end in (-_TOLERANCE, 1 + _TOLERANCE)]
    return np.sort(np.broadcast_to(np.stack(ends), (2, channels)), axis=0)


@stored_as("LabelOrder")
class LabelOrder:
    """Watches labels batch by batch, and tells when a loader that shuffles would not give them so.

    That labels never go down, or that each batch holds one class only, is taken for an accident until shuffling
    would lead to it less than once in a million runs.
    """

    def __init__(self) -> None:
        self.classes: Counter[int] = Counter()
        self.pure_batches: Counter[int] = Counter()
        self.batches = 0
        self.ascending = True
        self.pure = True
        self._last = -math.inf

    @property
    def open(self) -> bool:
        """Whether more labels may lead to a finding."""
        return (self.ascending or self.pure) and self.finding() is None

    def update(self, labels: Sequence[int]) -> None:
        """Take the labels of the next batch, at least one."""
        self.ascending = self.ascending and self._last <= labels[0] and list(labels) == sorted(labels)
        self.pure = self.pure and len(set(labels)) == 1
        self._last = labels[-1]
        self.batches += 1
        self.classes.update(labels)
        self.pure_batches[labels[0]] += 1

    def finding(self) -> str | None:
        """Return ``sorted``, ``one class a batch``, or None while there is nothing to say."""
        if self.batches < _LEAST_BATCHES:
            return None
        orders = _log_orders(self.classes)
        if self.ascending and orders > -math.log(_CHANCE):
            return "sorted"
        if self.pure and orders - _log_orders(self.pure_batches) > -math.log(_CHANCE):
            return "one class a batch"
        return None


def _log_orders(counts: Counter[int]) -> float:
    """Return the logarithm of the number of orders that things of several kinds can come in."""
    return math.lgamma(sum(counts.values()) + 1) - sum(math.lgamma(count + 1) for count in counts.values())
