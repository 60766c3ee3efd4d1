"""Images that were normalized with another mean and deviation than callbacks were told.

Source: "wrong preprocessing" of N. Humbatova et al., 2020; constants of ImageNet in one place and of the data in
another.
Cost: the smallest and largest values of images that are read anyway.
Risk: noise, images that are standardized one by one, and images of a narrow range look as if it were so. Only black and
white that many images reach count, and only where they come to lie clearly outside 0 to 1, or are exactly -1 and 1.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import pictures
from ..ranges import FEWEST, Normalization, ends, from_0_to_1, from_0_to_255, standardized, told

_OUTSIDE = 0.05
_SAME = 0.02

_CAUSES = ["one-item", "different-scale", "different-statistics", "normalized-twice", "unnormalized"]


@rule("wrong-normalization", at="data", explained_by=_CAUSES)
def wrong_normalization(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose black and white are others than the mean and deviation that were told make them."""
    normalization = told(probe)
    if normalization is None:
        return
    for loader in probe.loaders.values():
        seen = ends(loader) if len(pictures(loader)) >= FEWEST else None
        if seen is not None and not _explained(loader) and _differs(seen, normalization):
            yield _finding(loader, seen, normalization)


def _explained(loader: LoaderProbe) -> bool:
    seen = pictures(loader)
    return standardized(seen) or from_0_to_1(seen) or from_0_to_255(seen)


def _differs(seen: tuple[float, float], normalization: Normalization) -> bool:
    low, high = normalization.undone(*seen)
    from_minus_1 = abs(seen[0] + 1) < _SAME / 10 and abs(seen[1] - 1) < _SAME / 10
    expected = normalization.ends()
    size = expected[1] - expected[0]
    other = max(abs(seen[0] - expected[0]), abs(seen[1] - expected[1])) > _SAME * size
    return other and (low < -_OUTSIDE or high > 1 + _OUTSIDE or from_minus_1)


def _finding(loader: LoaderProbe, seen: tuple[float, float], normalization: Normalization) -> Finding:
    expected = normalization.ends()
    return Finding(
        "warning",
        f"black and white are {seen[0]:.3g} and {seen[1]:.3g} in images of {loader.key}, but {expected[0]:.3g} and"
        f" {expected[1]:.3g} by the mean and std that {normalization.callback} was told: they were normalized with"
        " others",
        "use the same mean and std in the transforms and in the callbacks",
        Where(loader.key, loader.image_key),
        {"ends": list(seen), "expected": list(expected)},
    )
