"""A mean and a deviation of bytes on images of 0 to 1, or those of 0 to 1 on bytes.

Source: "wrong preprocessing" of N. Humbatova et al., 2020; 123.675 and 58.395 against 0.485 and 0.229 for the same
images, ``max_pixel_value`` of albumentations.
Cost: the smallest and largest value per channel of images that are read anyway.
Risk: measurements that are no pictures. Of bytes' constants, all values of each channel have to lie below 0, twenty
times further from it than they lie apart; of the others, levels of 8 bits have to be a fraction of a level off whole
numbers, and further than 1 apart.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ...ranges import FEWEST, described
from ...recovered import in_short, recovered, with_ends

# A mean of bytes is 30 or more in each channel of images that are not all black; here they run over 1 at most.
_AWAY = 20
_BYTES = 255
# Deviations and means of images of 0 to 1; outside, they are no such constants.
_LARGEST, _SMALLEST = 0.9, 0.02


@rule("mean-of-another-scale", at="data", explained_by=["one-item"])
def mean_of_another_scale(probe: Probe) -> Iterator[Finding]:
    """Find loaders of which only a mean and a deviation of another scale explain the values."""
    for what, of in (("bytes", _of_bytes), ("shares", _of_shares)):
        found = {key: text for key, one in probe.loaders.items() if (text := of(one))}
        if found:
            first = probe.loaders[next(iter(found))]
            yield Finding(
                "warning",
                f"images of {' and '.join(found)} {next(iter(found.values()))}",
                "divide images by 255 before a mean and std of 0 to 1, such as 0.485 and 0.229, and not before those of"
                " bytes, such as 123.7 and 58.4",
                Where(", ".join(found), first.image_key),
                {"constants_of": what, "range": described(first)},
            )


def _of_bytes(loader: LoaderProbe) -> str:
    seen = with_ends(loader)
    if len(seen) < FEWEST:
        return ""
    low, high = _ends(loader)
    width = high - low
    if not ((width > 0) & (high < 0) & (-high > _AWAY * width)).all() or width.max() > 1.02:
        return ""
    constants = f"mean about {in_short(np.rint(-low / width))}" if width.min() > 0.9 else f"std {in_short(1 / width)}"
    return (
        f"hardly vary, as each channel runs over {in_short(width)} at most, from {described(loader)} in all: a mean and"
        f" std of bytes, 0 to 255 (here {constants}), were taken from images of 0 to 1"
    )


def _of_shares(loader: LoaderProbe) -> str:
    found = recovered(loader)
    if found is None or found.steps is None or min(found.steps) < 1 / _LARGEST or max(found.steps) > 1 / _SMALLEST:
        return ""
    low, high = _ends(loader)
    # A level is (number - mean) / std, so that the mean is what the levels are off whole numbers.
    mean = np.mod(-low / found.steps, 1)
    if not ((mean > _SMALLEST) & (mean < 1 - _SMALLEST)).all() or not (high > _BYTES / 4).all():
        return ""
    return (
        f"run from {described(loader)}: a mean and std of images of 0 to 1 (here {in_short(mean)} and"
        f" {in_short(1 / found.steps)}) were taken from images of 0 to 255, which were not divided by 255"
    )


def _ends(loader: LoaderProbe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    seen = with_ends(loader)
    return np.array([it.lows for it in seen]).min(0), np.array([it.highs for it in seen]).max(0)
