"""In which range the images of a loader lie, and what that says of how they were normalized."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..probe.loader_probe import LoaderProbe, SampleProbe
from ..probe.probe import Probe
from .pictures import channel_means, channel_stds, pictures

# So many pictures at least: of a few, none may reach black or white.
FEWEST = 8
# A value is an end of the range, black or white, where this share of the pictures has exactly that extreme.
_AT_END = 0.1
# Of the range: below it, values of a file of 8 bits cannot be told apart.
_SAME = 1e-3
# Rounding in half precision.
_ROUNDING = 4e-3


@dataclass(frozen=True)
class Normalization:
    """A mean and a standard deviation that a callback was told, by channel, and which callback that is."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    callback: str

    def ends(self, low: float = 0.0, high: float = 1.0) -> tuple[float, float]:
        """Return what black and white become, the extremes over the channels."""
        pairs = [*zip(self.mean, self.std, strict=True)]
        return min((low - mean) / std for mean, std in pairs), max((high - mean) / std for mean, std in pairs)

    def undone(self, low: float, high: float) -> tuple[float, float]:
        """Return the range of values before it, the extremes over the channels."""
        # The channel of an extreme is not known: the one in which it means least.
        pairs = [*zip(self.mean, self.std, strict=True)]
        return max(low * std + mean for mean, std in pairs), min(high * std + mean for mean, std in pairs)


def told(probe: Probe) -> Normalization | None:
    """Return the normalization that callbacks were told; None where nobody was told one that changes images."""
    for metric in probe.settings.metrics:
        if metric.mean and metric.std and all(std > 0 for std in metric.std):
            count = max(len(metric.mean), len(metric.std))
            mean = metric.mean if len(metric.mean) == count else metric.mean * count
            std = metric.std if len(metric.std) == count else metric.std * count
            of_shares = all(0 <= one <= 1 for one in mean) and all(one <= 1 for one in std)
            if of_shares and any(mean):
                return Normalization(tuple(mean), tuple(std), metric.callback)
    return None


def of_range(loader: LoaderProbe) -> tuple[float, float]:
    """Return the smallest and the largest value of all pictures."""
    seen = pictures(loader)
    return min(sample.low for sample in seen), max(sample.high for sample in seen)


def described(loader: LoaderProbe) -> str:
    """Return the range as ``-2.1 to 2.6``."""
    low, high = of_range(loader)
    return f"{low:.3g} to {high:.3g}"


def from_0_to_1(samples: Sequence[SampleProbe]) -> bool:
    """Return whether values look like shares of white: none is below 0 or above 1, and they reach far."""
    high = max(sample.high for sample in samples)
    return min(sample.low for sample in samples) >= 0 and 0.1 < high <= 1 + _ROUNDING


def from_0_to_255(samples: Sequence[SampleProbe]) -> bool:
    """Return whether values look like those of a file of 8 bits."""
    highs = [sample.high for sample in samples]
    return min(sample.low for sample in samples) >= 0 and float(np.median(highs)) > 32 and max(highs) <= 256


def ends(loader: LoaderProbe) -> tuple[float, float] | None:
    """Return what black and white are in a loader; None where too few pictures reach both."""
    seen = pictures(loader)
    if len(seen) < FEWEST:
        return None
    lows, highs = (np.array([getattr(sample, name) for sample in seen]) for name in ("low", "high"))
    low, high = float(lows.min()), float(highs.max())
    near = _SAME * (high - low)
    at_ends = ((lows <= low + near).mean(), (highs >= high - near).mean())
    return (low, high) if min(at_ends) >= _AT_END else None


def standardized(samples: Sequence[SampleProbe]) -> bool:
    """Return whether each picture by itself has mean 0 and standard deviation 1, of all its values or by channel."""
    means, stds = channel_means(samples), channel_stds(samples)
    whole = np.sqrt((stds**2 + means**2).mean(1) - means.mean(1) ** 2)
    return _unit(means.mean(1), whole) or _unit(means.reshape(-1), stds.reshape(-1))


def _unit(means: NDArray[np.float64], stds: NDArray[np.float64]) -> bool:
    return bool((np.abs(means) < 0.03).mean() > 0.95 and (np.abs(stds - 1) < 0.05).mean() > 0.95)
