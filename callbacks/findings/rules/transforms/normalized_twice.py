"""Images that were normalized, or divided by 255, twice.

Source: "wrong preprocessing" of N. Humbatova et al., 2020; a normalization in the data set and one in the transform.
Cost: the smallest and largest values of images that are read anyway.
Risk: images of another kind. Undone once, values have to be far outside 0 to 1; undone twice, within it; or black and
white have to be exactly what two common normalizations make of them; or a common normalization of one loader's images
has to give the mean and the deviation of each channel of the other's; or black and white of the loaders are those of
one and of two normalizations with the same constants.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..comparing import distance
from ..pictures import channel_means, channel_stds, pictures
from ..ranges import FEWEST, Normalization, described, ends, standardized, told
from ..recovered import recovered

_COMMON = (
    Normalization((0.5,), (0.5,), ""),
    Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), ""),
)
_OUTSIDE, _NEAR = 0.25, 0.03
# Images of both loaders share no contrast, and agree to these parts of it once those of one are normalized again.
_APART, _AGREE = 0.9, 0.15
_EIGHT_BITS = 255
# Of constants that black and white tell.
_NO_STD, _NO_MEAN, _PRECISE = 0.7, 0.02, 0.1
# Means and deviations of the channels of pictures, and what one normalization makes of them, and two.
_MEANS, _STDS, _OWN_STDS = (0.1, 0.8), (0.12, 0.35), 2e-4
_CENTRE, _ONE, _SPREADS = (-1.5, 2.5), (0.5, 2.5), (2.2, 20.0)


@rule("normalized-twice", at="data", explained_by=["one-item"])
def normalized_twice(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose values only two normalizations, or two divisions by 255, explain."""
    for key, what in _found(probe).items():
        yield Finding(
            "warning",
            f"images of {key} are {what}: they run from {described(probe.loaders[key])}",
            f"do it once, in the transforms of {key} or where its images are read",
            Where(key, probe.loaders[key].image_key),
            {"range": described(probe.loaders[key])},
        )


def _found(probe: Probe) -> dict[str, str]:
    normalization = told(probe)
    found = {}
    for key, loader in probe.loaders.items():
        if len(pictures(loader)) >= FEWEST and not standardized(pictures(loader)):
            found[key] = _how(loader, normalization)
    if not any(found.values()) and {"train", "valid"} <= {*found}:
        found = {key: _against(probe, key, other) for key, other in (("train", "valid"), ("valid", "train"))}
    return {key: how for key, how in found.items() if how}


def _against(probe: Probe, key: str, other: str) -> str:
    """Return how a loader was normalized where the other one's images become like its own by one more time."""
    known = told(probe)
    options = [*_COMMON, known] if known else _COMMON
    fits = any(_once_more(probe.loaders[key], probe.loaders[other], it) for it in options)
    fits = fits or _as_recovered(probe.loaders[key], probe.loaders[other])
    return f"normalized once more than those of {other}" if fits else ""


def _once_more(loader: LoaderProbe, other: LoaderProbe, normalization: Normalization) -> bool:
    seen, once = pictures(loader), pictures(other)
    means, stds = [channel_means(it) for it in (seen, once)], [channel_stds(it) for it in (seen, once)]
    channels = means[0].shape[1]
    if means[1].shape[1] != channels or len(normalization.mean) not in (1, channels):
        return False
    # Without values below 0, the other loader is not normalized at all.
    if np.mean([sample.low < -_OUTSIDE for sample in once]) < 0.5:
        return False
    size = stds[1].mean(0) / np.array(normalization.std)
    expected = (means[1].mean(0) - np.array(normalization.mean)) / np.array(normalization.std)
    near = np.abs(stds[0].mean(0) / size - 1) < _AGREE, np.abs(means[0].mean(0) - expected) < _AGREE * size
    apart = min(distance(stds[0][:, channel], stds[1][:, channel]) for channel in range(channels))
    return bool(np.all(near)) and apart > _APART


def _as_recovered(loader: LoaderProbe, other: LoaderProbe) -> bool:
    twice, once = recovered(loader), recovered(other)
    if twice is None or once is None or not (twice.sure and once.sure) or len(twice.std) != len(once.std):
        return False
    # Without a deviation, or on images that were not normalized, a second time changes nothing or tells nothing.
    if once.std.max() > _NO_STD or once.mean.min() < _NO_MEAN:
        return False
    stds, means = twice.std / once.std**2, (twice.mean - once.mean * (1 + once.std)) / twice.std
    return bool(np.abs(stds - 1).max() < _PRECISE and np.abs(means).max() < _PRECISE)


def _how(loader: LoaderProbe, normalization: Normalization | None) -> str:
    if _divided_twice(loader, normalization):
        return "divided by 255 twice"
    as_told = normalization is not None and _twice(loader, normalization) and not _by_others(loader, normalization)
    twice = as_told or any(_exactly_twice(loader, one) for one in _COMMON) or _twice_by_own(loader)
    return "normalized twice" if twice else ""


def _by_others(loader: LoaderProbe, normalization: Normalization) -> bool:
    """Return whether black and white tell another deviation than that of two times a normalization."""
    known = recovered(loader)
    # The step between two levels tells the deviation, whether black is known or not.
    is_known = known is not None and (known.sure or known.steps is not None)
    if known is None or not is_known or len(normalization.std) not in (1, len(known.std)):
        return False
    return bool(np.abs(known.std / np.array(normalization.std) ** 2 - 1).max() > _PRECISE)


def _twice_by_own(loader: LoaderProbe) -> bool:
    """Return whether constants that black and white tell are those of two normalizations with constants of pictures."""
    known = recovered(loader)
    if known is None or known.steps is None or not known.sure or len(known.std) < 3 or np.ptp(known.std) < _OWN_STDS:
        return False
    # Of x, twice is (x - mean - mean * std) / std / std.
    std = np.sqrt(known.std)
    mean = known.mean / (1 + std)
    means, stds = channel_means(pictures(loader)), channel_stds(pictures(loader))
    if not (_within(std, _STDS) and _within(mean, _MEANS) and means.shape[1] == len(std)):
        return False
    spread = np.sqrt((stds**2 + means**2).mean(0) - means.mean(0) ** 2)
    return _within(spread, _SPREADS) and _within(spread * std, _ONE) and _within(means.mean(0) * std + mean, _CENTRE)


def _within(values: NDArray[np.float64], ends: tuple[float, float]) -> bool:
    return bool(values.min() >= ends[0] and values.max() <= ends[1])


def _divided_twice(loader: LoaderProbe, normalization: Normalization | None) -> bool:
    low, high = _middle(loader)
    before = (low, high) if normalization is None else normalization.undone(low, high)
    options = [(low, high), before]
    return any(it[0] >= -1e-4 and 0.5 / _EIGHT_BITS < it[1] <= 1.02 / _EIGHT_BITS for it in options)


def _twice(loader: LoaderProbe, normalization: Normalization) -> bool:
    seen = pictures(loader)
    once = [normalization.undone(sample.low, sample.high) for sample in seen]
    outside = np.mean([low < -_OUTSIDE or high > 1 + _OUTSIDE for low, high in once])
    twice = [normalization.undone(low, high) for low, high in once]
    within = all(low >= -_NEAR and high <= 1 + _NEAR for low, high in twice)
    # Values that two steps would squeeze into a corner were not made by them.
    reach = float(np.median([high - low for low, high in twice]))
    return bool(outside > 0.9 and within and reach > 0.15)


def _exactly_twice(loader: LoaderProbe, normalization: Normalization) -> bool:
    seen = ends(loader)
    expected = normalization.ends(*normalization.ends()) if len(normalization.mean) == 1 else _by_channel(normalization)
    if seen is None:
        return False
    near = 2e-3 * (expected[1] - expected[0])
    return abs(seen[0] - expected[0]) < near and abs(seen[1] - expected[1]) < near


def _by_channel(normalization: Normalization) -> tuple[float, float]:
    pairs = [*zip(normalization.mean, normalization.std, strict=True)]
    low, high = ([((value - mean) / std - mean) / std for mean, std in pairs] for value in (0, 1))
    return min(low), max(high)


def _middle(loader: LoaderProbe) -> tuple[float, float]:
    seen = pictures(loader)
    return min(sample.low for sample in seen), max(sample.high for sample in seen)
