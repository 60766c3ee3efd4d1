"""Images that were normalized, or divided by 255, twice.

Source: "wrong preprocessing" of N. Humbatova et al., 2020; a normalization in the data set and one in the transform.
Cost: the smallest and largest values of images that are read anyway.
Risk: images of another kind. Undone once, values have to be far outside 0 to 1; undone twice, within it; or black and
white have to be exactly what two common normalizations make of them.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import pictures
from ..ranges import FEWEST, Normalization, described, ends, standardized, told

_COMMON = (
    Normalization((0.5,), (0.5,), ""),
    Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), ""),
)
_OUTSIDE, _NEAR = 0.25, 0.03
_EIGHT_BITS = 255


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
    return {key: how for key, how in found.items() if how}


def _how(loader: LoaderProbe, normalization: Normalization | None) -> str:
    if _divided_twice(loader, normalization):
        return "divided by 255 twice"
    as_told = normalization is not None and _twice(loader, normalization)
    return "normalized twice" if as_told or any(_exactly_twice(loader, one) for one in _COMMON) else ""


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
