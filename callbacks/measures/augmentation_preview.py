"""Checks of the input of a training: the range of the images, and the order of the labels."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as

_TOLERANCE = 0.02  # bicubic scaling and colour changes overshoot a little
_MOST_OUTSIDE = 0.001  # share of values: augmentation moves a few farther than the tolerance
_LEAST_SPREAD = 0.2  # images of one grey say nothing about their normalization
_LEAST_BATCHES = 3
_CHANCE = 1e-6  # of an accident, below which an order of labels is reported
_AT_ONCE = 2**20  # values of a channel that are compared at a time


@dataclass(frozen=True)
class Range:
    """The values of images, all channels together.

    Attributes:
        low: smallest finite value after the normalization was undone; 0 to 1 is what it should be.
        high: largest such value.
        outside: share of the values that lie outside by more than a little, or are not finite.
        raw: smallest and largest finite value as the model sees them.
    """

    low: float
    high: float
    outside: float
    raw: tuple[float, float]

    @property
    def leaves(self) -> bool:
        """Whether more values are outside of 0 to 1 than augmentation explains."""
        return self.outside > _MOST_OUTSIDE

    @property
    def not_normalized(self) -> bool:
        """Whether the images look as if nobody had normalized them: they fill 0 to 1 before anything is undone."""
        low, high = self.raw
        # In normalized images some pixel is darker than the mean, so that the smallest value is below 0.
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
        image: [C, H, W] or [H, W], floating point.
        mean: one number or [C].
        std: one number or [C].

    Returns:
        [4, C], float64: smallest and largest finite value (inf and -inf where there is none), the number of those that
        lie within 0 to 1 or a little outside after the normalization is undone, and the number of all.
    """
    channels = image.reshape(-1, *image.shape[-2:])
    low, high = _fitting_range(mean, std, len(channels))
    # In bands of some rows, as masks and copies of a whole large image would take several times its memory.
    rows = max(1, _AT_ONCE // channels.shape[2])
    found = [_extremes_of_channel(*one, rows) for one in zip(channels, low.tolist(), high.tolist(), strict=True)]
    return torch.stack(found, dim=1)


def _extremes_of_channel(channel: Tensor, low: float, high: float, rows: int) -> Tensor:
    parts = []
    for band in channel.split(rows):
        finite = band.isfinite()
        least, most = band.where(finite, math.inf).amin(), band.where(finite, -math.inf).amax()
        fits = ((band >= low) & (band <= high)).sum()
        parts.append(torch.stack([least.double(), most.double(), fits.double()]))
    whole = torch.stack(parts)
    size = whole.new_full((), channel.numel())
    return torch.stack([whole[:, 0].amin(), whole[:, 1].amax(), whole[:, 2].sum(), size])


def _fitting_range(mean: np.ndarray, std: np.ndarray, channels: int) -> np.ndarray:
    """Return the values of each channel between which an image fits 0 to 1: [2, channels]."""
    # A std of 0 gives infinite ends, between which every value fits.
    with np.errstate(divide="ignore"):
        ends = [(end - mean.reshape(-1)) / std.reshape(-1) for end in (-_TOLERANCE, 1 + _TOLERANCE)]
    return np.sort(np.broadcast_to(np.stack(ends), (2, channels)), axis=0)


@stored_as("LabelOrder")
class LabelOrder:
    """Watches labels batch by batch, and reports an order that a shuffling loader would not give.

    Labels that never go down, or batches of one class each, count as an accident until shuffling would lead to them
    less than once in a million runs.
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
        """Whether further labels may change the finding."""
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
        """Return ``sorted``, ``one class per batch``, or None while there is nothing to report."""
        if self.batches < _LEAST_BATCHES:
            return None
        # Shuffling gives every order of the labels with the same probability: 1 / exp(orders).
        orders = _log_orders(self.classes)
        if self.ascending and orders > -math.log(_CHANCE):
            return "sorted"
        if self.pure and orders - _log_orders(self.pure_batches) > -math.log(_CHANCE):
            return "one class per batch"
        return None


def _log_orders(counts: Counter[int]) -> float:
    """Return the logarithm of the multinomial coefficient: the number of orders of things of several kinds."""
    return math.lgamma(sum(counts.values()) + 1) - sum(math.lgamma(count + 1) for count in counts.values())
