"""The mean and the deviation by which images were normalized, as their values alone tell."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..probe.loader_probe import LoaderProbe, SampleProbe
from .pictures import pictures

_FEWEST = 16
# A value is black or white itself, where this share of the pictures has exactly that extreme.
_AT_END = 0.1
# Of the range of a channel: below it, two levels of 8 bits cannot be told apart.
_SAME = 1e-3
# Where values lie on no grid, they end at the same one only where they are cut off.
_FINE, _EXACT, _TIED = ("float32", "float64"), 1e-5, 3
_WHITE = 255
# Of the pictures, those of which a grid is known, and those that agree on its step and its place.
_KNOWN, _AGREE = 0.7, 0.9
_NEAR_STEP, _NEAR_PLACE = 0.02, 0.15


@dataclass(frozen=True)
class Recovered:
    """What black and white became, per channel, and so the mean and the deviation for images of 0 to 1.

    Attributes:
        black: [C].
        white: [C].
        steps: [C], of the grid of 8 bits on which all values lie; None where black and white are those of many images.
        sure: whether black is known in all channels, as far as many images have it; else the darkest pixel stands for
            it.
        full: whether all 256 levels are there, so that black is known for certain.
    """

    black: NDArray[np.float64]
    white: NDArray[np.float64]
    steps: NDArray[np.float64] | None
    sure: bool
    full: bool = False

    @property
    def std(self) -> NDArray[np.float64]:
        """Return the deviation by which images of 0 to 1 were divided."""
        return 1 / (self.white - self.black)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Return the mean that was subtracted from images of 0 to 1."""
        return -self.black * self.std

    def shown(self) -> str:
        """Return mean and deviation as text."""
        about = "" if self.full or (self.sure and self.steps is None) else "about "
        return f"mean {about}{in_short(self.mean)} and std {in_short(self.std)}"


def in_short(values: NDArray[np.float64]) -> str:
    """Return a number for each channel; one where all are the same."""
    texts = [f"{value:.3g}" if abs(value) > 5e-4 else "0" for value in values]
    return texts[0] if len({*texts}) == 1 else ", ".join(texts)


def recovered(loader: LoaderProbe) -> Recovered | None:
    """Return the normalization of a loader's images; None where their values do not tell."""
    seen = with_ends(loader)
    if len(seen) < _FEWEST:
        return None
    lows, highs = np.array([it.lows for it in seen]), np.array([it.highs for it in seen])
    near = _SAME * (highs.max(0) - lows.min(0))
    if not (near > 0).all():
        return None
    at_low = (lows <= lows.min(0) + near).mean(0) >= _AT_END
    at_high = (highs >= highs.max(0) - near).mean(0) >= _AT_END
    steps = _grid(seen, lows)
    if steps is not None and ((highs.max(0) - lows.min(0)) / steps < _WHITE + 0.5).all():
        return _of_grid(steps, (lows.min(0), highs.max(0)), (at_low, at_high))
    tied = all(it.dtype in _FINE for it in seen) and _tied(lows) and _tied(-highs)
    return Recovered(lows.min(0), highs.max(0), None, True) if tied or (at_low & at_high).all() else None


def _tied(lows: NDArray[np.float64]) -> bool:
    """Return whether some images end at exactly the smallest value, in each channel, where values are cut off."""
    return bool(((lows <= lows.min(0) + _EXACT * np.ptp(lows, 0)).sum(0) >= _TIED).all())


def with_ends(loader: LoaderProbe) -> list[SampleProbe]:
    """Return the pictures whose smallest and largest values per channel are known, of the usual number of channels."""
    seen = [it for it in pictures(loader) if it.lows and len(it.shape) in (2, 3)]
    channels = Counter([len(it.lows) for it in seen])
    return [it for it in seen if len(it.lows) == channels.most_common(1)[0][0]]


def _of_grid(
    steps: NDArray[np.float64],
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    reached: tuple[NDArray[np.bool_], NDArray[np.bool_]],
) -> Recovered:
    low, high = ends
    # All 256 levels are there, or many images end at the same one.
    whole = (high - low) / steps > _WHITE - 2
    is_black = whole | reached[0]
    black = np.where(is_black, low, np.where(reached[1], high - _WHITE * steps, low))
    return Recovered(black, black + _WHITE * steps, steps, bool((is_black | reached[1]).all()), bool(whole.all()))


def _grid(seen: list[SampleProbe], lows: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the step of each channel, on whose grid the values of all images lie; None where they lie on none."""
    measured = [it.levels.steps for it in seen if it.levels is not None and len(it.levels.steps) == len(it.lows)]
    if len(measured) < _FEWEST:
        return None
    found = np.array(measured)
    known = found > 0
    if known.mean(0).min() < _KNOWN:
        return None
    steps = np.array([np.median(found[known[:, channel], channel]) for channel in range(found.shape[1])])
    times = np.where(known, found, steps) / steps
    alike = np.abs(times - np.maximum(np.rint(times), 1)) < _NEAR_STEP
    # Places between two levels go around, as hours of a clock.
    turns = np.exp(2j * np.pi * lows / steps)
    on_it = np.abs(np.angle(turns / turns.mean(0))) / (2 * np.pi) < _NEAR_PLACE
    return steps if min(alike.mean(), on_it.mean(0).min()) >= _AGREE else None
