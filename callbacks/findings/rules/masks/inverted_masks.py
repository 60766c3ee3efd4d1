"""Masks in which foreground and background are exchanged.

Source: masks of black on white, or a threshold the wrong way round.
Cost: shares of values, and the mean brightness within and without, of up to 64 images per loader.
Risk: another share of foreground alone is no fault: the share must be the complement, and what is brighter or darker
than its surroundings must be so the other way round, where images tell.
"""

from collections.abc import Iterator
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Where
from ...probe.loader_probe import SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from .masks import FEWEST, Masks, masks_of

_APART, _SPREADS = 0.2, 5.0  # of the shares; nearer to a half, nothing can be told
_CLEAR = 4.0  # standard errors of the difference between inside and outside


@rule("inverted-masks", at="data", explained_by=["one-item", "empty-masks"])
def inverted_masks(probe: Probe) -> Iterator[Finding]:
    """Find masks of two values whose foreground is as large as the background is in the other loader."""
    found = [masks for masks in masks_of(probe) if len(masks.shares) == 2 and len(masks.samples) >= FEWEST]
    trains = [masks for masks in found if masks.loader.trains]
    for train in trains:
        for valid in (masks for masks in found if not masks.loader.trains):
            if _complementary(train.foreground, valid.foreground) and _opposite(train, valid):
                yield _finding(train, valid)


def _complementary(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> bool:
    here, there = float(ours.mean()), float(theirs.mean())
    error = sqrt(float(ours.var()) / len(ours) + float(theirs.var()) / len(theirs))
    off = abs(here - (1 - there))
    return abs(here - there) > max(_APART, _SPREADS * error) and off < max(3 * error, 0.1 * abs(here - there))


def _opposite(ours: Masks, theirs: Masks) -> bool:
    """Return whether the contrast of things is turned round, or images do not tell."""
    signs = [_contrast(masks) for masks in (ours, theirs)]
    told = [sign for sign in signs if abs(sign) > _CLEAR]
    return len(told) < 2 or told[0] * told[1] < 0


def _contrast(masks: Masks) -> float:
    """Return by how many standard errors the inside is brighter than the outside; 0 where it is not known."""
    found = [it for sample in masks.samples if (it := _difference(sample)) is not None]
    if len(found) < FEWEST:
        return 0.0
    return float(np.mean(found)) / max(float(np.std(found)) / sqrt(len(found)), 1e-9)


def _difference(sample: SampleProbe) -> float | None:
    image, mask = sample.image, sample.mask
    if image is None or mask is None or image.shape[-2:] != mask.shape[-2:]:
        return None
    inside = (mask if mask.ndim == 2 else mask.max(0)) > 0
    grey = np.nan_to_num(image.astype(np.float32)).mean(0)
    if inside.all() or not inside.any():
        return None
    return float((grey[inside].mean() - grey[~inside].mean()) / (grey.std() + 1e-6))


def _finding(train: Masks, valid: Masks) -> Finding:
    here, there = float(train.foreground.mean()), float(valid.foreground.mean())
    # Things are mostly smaller than what surrounds them.
    wrong = train if here > there else valid
    return Finding(
        "error",
        f"masks of {train.key} and {valid.key} are inverted against each other: {here:.0%} of the pixels are "
        f"foreground in {train.key} and {there:.0%} in {valid.key}, its complement, probably wrong in {wrong.key}",
        f"look at a mask of each, and let 1 be what is to be found in {wrong.key} as well",
        Where(loader=wrong.key, key=wrong.loader.target_key),
        {train.key: here, valid.key: there},
    )
