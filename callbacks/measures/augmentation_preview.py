"""What is wrong with the input of a training: its range, and the order of its labels."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_TOLERANCE = 0.02  # bicubic scaling and colour changes overshoot a little
_SHARE = 0.001
_LEAST_SPREAD = 0.2
_LEAST_BATCHES = 3
_CHANCE = 1e-6


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
    # Image by image: all of them in float64 would take several times the memory of those that are kept.
    parts = [_range_of(image, mean, std) for image in images if np.issubdtype(image.dtype, np.floating)]
    if not parts:
        return None
    lows, highs, fits, raw_lows, raw_highs, sizes = (np.array(row) for row in zip(*parts, strict=True))
    if lows.min() == math.inf:
        return Range(math.nan, math.nan, 1.0, (math.nan, math.nan))
    outside = 1 - float(fits.sum() / sizes.sum())
    return Range(float(lows.min()), float(highs.max()), outside, (float(raw_lows.min()), float(raw_highs.max())))


def _range_of(image: np.ndarray, mean: np.ndarray, std: np.ndarray) -> tuple[float, ...]:
    """Return lowest, highest and number of fitting values, lowest and highest raw value, and number of values."""
    raw = image.reshape(-1, *image.shape[-2:]).astype(np.float64)
    unit = raw * std.reshape(-1, 1, 1) + mean.reshape(-1, 1, 1)
    finite = np.isfinite(raw)
    fits = int(np.count_nonzero((unit >= -_TOLERANCE) & (unit <= 1 + _TOLERANCE)))
    low, raw_low = (float(values.min(where=finite, initial=math.inf)) for values in (unit, raw))
    high, raw_high = (float(values.max(where=finite, initial=-math.inf)) for values in (unit, raw))
    return low, high, fits, raw_low, raw_high, raw.size


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
