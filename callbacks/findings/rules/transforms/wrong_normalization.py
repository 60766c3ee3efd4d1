"""Images that were normalized with another mean and deviation than callbacks were told.

Source: "wrong preprocessing" of N. Humbatova et al., 2020; constants of ImageNet in one place and of the data in
another.
Cost: the smallest and largest values, and the levels, of images that are read anyway.
Risk: noise, images that are standardized one by one, and images of a narrow range look as if it were so. Only black and
white that many images reach count, and only where they come to lie clearly outside 0 to 1, or are exactly -1 and 1; or,
where some levels are missing, steps between them that are no whole number of those that were told.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import pictures
from ..ranges import FEWEST, Normalization, ends, from_0_to_1, from_0_to_255, standardized, told
from ..recovered import Recovered, in_short, recovered

_DO = "use the same mean and std in the transforms and in the callbacks"
_OUTSIDE = 0.05
_SAME = 0.02
# Deviations of common constants that differ by less do not matter.
_OTHER_STD, _WHOLE, _FEW_LEVELS = 0.1, 0.03, 2.4

_CAUSES = ["one-item", "different-scale", "different-statistics", "normalized-twice", "unnormalized"]


@rule("wrong-normalization", at="data", explained_by=_CAUSES)
def wrong_normalization(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose black and white are others than the mean and deviation that were told make them."""
    normalization = told(probe)
    if normalization is None:
        return
    for loader in probe.loaders.values():
        if len(pictures(loader)) < FEWEST or _explained(loader):
            continue
        seen, known = ends(loader), recovered(loader)
        # Without all levels, the darkest pixel need not be black.
        if known is not None and not known.full and _has_other_levels(known, normalization):
            yield _of_levels(loader, known, normalization)
        elif seen is not None and _differs(seen, normalization):
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


def _has_other_levels(known: Recovered, normalization: Normalization) -> bool:
    """Return whether the steps between levels of 8 bits are those of another deviation, in all channels."""
    if known.steps is None or len(normalization.std) not in (1, len(known.std)):
        return False
    times = np.array(normalization.std) / known.std
    # Images of few levels, such as 17, have steps that are many times as large, or twice.
    if times.max() > _FEW_LEVELS:
        return False
    return bool(np.all((np.abs(times - 1) > _OTHER_STD) & (np.abs(times - np.rint(times)) > _WHOLE)))


def _of_levels(loader: LoaderProbe, known: Recovered, normalization: Normalization) -> Finding:
    told_mean, told_std = (in_short(np.array(one)) for one in (normalization.mean, normalization.std))
    return Finding(
        "warning",
        f"images of {loader.key} were normalized with {known.shown()}, as the steps between their levels tell, and"
        f" {normalization.callback} was told mean {told_mean} and std {told_std}",
        _DO,
        Where(loader.key, loader.image_key),
        {"std": known.std.tolist(), "expected": list(normalization.std)},
    )


def _finding(loader: LoaderProbe, seen: tuple[float, float], normalization: Normalization) -> Finding:
    expected = normalization.ends()
    return Finding(
        "warning",
        f"black and white are {seen[0]:.3g} and {seen[1]:.3g} in images of {loader.key}, but {expected[0]:.3g} and"
        f" {expected[1]:.3g} by the mean and std that {normalization.callback} was told: they were normalized with"
        " others",
        _DO,
        Where(loader.key, loader.image_key),
        {"ends": list(seen), "expected": list(expected)},
    )
