"""Masks with values between their classes, as interpolation makes along borders.

Source: masks that are resized or rotated like images, by bilinear or cubic interpolation.
Cost: values of masks that are read anyway, and the borders in up to 64 masks per loader.
Risk: soft masks, maps of heat and classes that are drawn as borders on purpose; so fractions must be rarer than the
classes beside them, and whole numbers must lie between two others in one loader and not in the other, or be many.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .masks import FEWEST, VOID, Masks, listed, masks_of, other_of
from .rims import Crossings, class_maps, solid

_OF_NUMBERS = ("mse", "l1", "smooth_l1", "huber")
_BORDERS = 0.4  # share of pixels; more than borders have in masks of thin things
_IN_MOST = 0.5  # of the masks; stray fractions are no interpolation
_WITHIN = 2  # pixels on which values lie between their neighbours
_THIN, _USUAL = 0.35, 0.15  # share of a class's pixels that lie between a lower and a higher class
_NEARLY_ALL = 0.85
_MANY = 5  # rare values, all of them on borders
_RARE = 0.02  # share of pixels of such a value
_FEWEST_PIXELS = 60
_MOST_CLASSES = 100
_RIMMED, _RARER_THERE = 0.2, 5.0  # share of the borders of two classes with a rim between; as much rarer elsewhere
_MOSTLY, _SOLID = 0.6, 0.15  # of the borders; of the pixels of the class between that lie in no rim
_FEWER = 300  # values; a mask in bytes has no more


@rule("interpolated-masks", at="data", explained_by=["one-item"])
def interpolated_masks(probe: Probe) -> Iterator[Finding]:
    """Find masks with fractions between classes, or with classes only along borders of others."""
    criteria = [term.criterion for term in probe.settings.terms]
    if probe.settings.task == "regression" or any(it.kind in _OF_NUMBERS for it in criteria):
        return
    found = [masks for masks in masks_of(probe) if len(masks.samples) >= FEWEST]
    for masks in found:
        other = other_of(masks, found)
        if (told := _fractions(masks)) or (told := _in_between(masks, other)) or (told := _rare(masks)):
            yield _finding(masks, *told)
        elif told_rim := _through_rims(masks, other):
            yield _of_rims(masks, *told_rim)


def _fractions(masks: Masks) -> tuple[list[float], float, str] | None:
    broken = {value: share for value, share in masks.shares.items() if value != int(value)}
    whole = {value: share for value, share in masks.shares.items() if value == int(value) and value != 0}
    # A mask of 0 to 1 that was scaled by 255 has no whole numbers; a map of heat has hardly any.
    if not broken or len(whole) < 1 or sum(broken.values()) > min(_BORDERS, sum(whole.values())):
        return None
    having = np.mean(
        [any(value != int(value) for value in it.mask_values) for it in masks.samples if len(it.mask_values) > 1]
    )
    if having < _IN_MOST:
        return None
    return list(broken), sum(broken.values()), "fractions between classes"


def _in_between(masks: Masks, other: Masks | None) -> tuple[list[float], float, str] | None:
    if other is None or len(masks.shares) < 3 or len(masks.shares) > 100:
        return None
    ours, theirs = _between_shares(masks), _between_shares(other)
    # A class that the other loader never has beside two others says nothing, unless it has no such class at all.
    told = [
        value
        for value, (thin, pixels) in ours.items()
        if pixels >= _FEWEST_PIXELS and thin > _THIN and _usual(theirs, other, value) < min(_USUAL, thin / 3)
    ]
    if not told:
        return None
    return (
        told,
        sum(masks.shares[value] for value in told),
        f"classes that lie along borders of others, unlike {other.key}",
    )


def _usual(theirs: dict[float, tuple[float, int]], other: Masks, value: float) -> float:
    if value not in other.shares:
        return 0.0
    return theirs.get(value, (1.0, 0))[0]


def _rare(masks: Masks) -> tuple[list[float], float, str] | None:
    plain = [share for share in masks.shares.values() if share >= _RARE]
    # A map of heat has one value that is frequent, a mask has two and hardly anything else.
    if len(masks.shares) > _FEWER or len(plain) < 2 or sum(plain) < 1 - _BORDERS:
        return None
    found = _between_shares(masks)
    rare = {value: it for value, it in found.items() if masks.shares[value] < _RARE}
    pixels = sum(it[1] for it in rare.values())
    thin = sum(it[0] * it[1] for it in rare.values())
    if len(rare) < _MANY or pixels < _FEWEST_PIXELS or thin < _NEARLY_ALL * pixels:
        return None
    return list(rare), sum(masks.shares[value] for value in rare), "values that lie only along borders of others"


def _through_rims(masks: Masks, other: Masks | None) -> tuple[tuple[float, float, float], float, float | None] | None:
    """Return two classes with a rim of the class between their numbers, which is seen elsewhere as a class of its own.

    With it, the share of their borders that has the rim, and that in the other loader, None where it is as large there.
    """
    values = [value for value in masks.shares if 0 <= value < VOID]
    if not 3 <= len(values) <= _MOST_CLASSES:
        return None
    maps = class_maps(masks)
    ours, theirs = Crossings(maps), Crossings(class_maps(other) if other is not None else [])
    for low, between, high in sorted(ours.bridged, key=lambda it: -ours.bridged[it]):
        here, number = ours.share(low, between, high)
        if not low < between < high < VOID or number < _FEWEST_PIXELS or here < _RIMMED:
            continue
        there, also = theirs.share(low, between, high)
        if also + theirs.direct[low, high] >= _FEWEST_PIXELS / 2 and there < here / _RARER_THERE:
            return (low, between, high), here, there
        # As annotators draw contours, which are a class that is found nowhere else.
        if here > _MOSTLY and solid(maps, between) > _SOLID:
            return (low, between, high), here, None
    return None


def _of_rims(masks: Masks, classes: tuple[float, float, float], here: float, there: float | None) -> Finding:
    low, between, high = classes
    against = "" if there is None else f", against {there:.0%} in the other loader"
    return Finding(
        "warning" if there is None else "error",
        f"masks of {masks.key} are interpolated: between classes {low:g} and {high:g} lies a thin rim of class "
        f"{between:g} on {here:.0%} of their borders{against}, as the mean of two class numbers makes",
        "resize and turn masks by the nearest pixel, not by interpolation",
        Where(loader=masks.key, key=masks.loader.target_key),
        {"classes": list(classes), "rimmed": here, "expected": there},
    )


def _between_shares(masks: Masks) -> dict[float, tuple[float, int]]:
    """Return of each inner value the share of pixels between a lower and a higher one, and the pixels."""
    kept = [sample.mask for sample in masks.samples if sample.mask is not None and sample.mask.ndim == 2]
    found: dict[float, tuple[float, int]] = {}
    pairs = [(mask, _between(mask)) for mask in kept]
    for value in list(masks.shares)[1:-1]:
        here = [(int((mask == value).sum()), int((between & (mask == value)).sum())) for mask, between in pairs]
        pixels = sum(it[0] for it in here)
        if pixels:
            found[value] = sum(it[1] for it in here) / pixels, pixels
    return found


def _between(mask: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Return the pixels with a lower value on one side and a higher one on the other, two pixels away at most."""
    values = mask.astype(np.float32)
    between = np.zeros(mask.shape, dtype=bool)
    for turned, found in ((values, between), (values.T, between.T)):
        padded = np.pad(turned, ((_WITHIN, _WITHIN), (0, 0)), mode="edge")
        height = len(turned)
        before = [padded[_WITHIN - step : _WITHIN - step + height] for step in range(1, _WITHIN + 1)]
        after = [padded[_WITHIN + step : _WITHIN + step + height] for step in range(1, _WITHIN + 1)]
        low_before, high_before = np.minimum.reduce(before), np.maximum.reduce(before)
        low_after, high_after = np.minimum.reduce(after), np.maximum.reduce(after)
        found |= (low_before < turned) & (high_after > turned) | (high_before > turned) & (low_after < turned)
    return between


def _finding(masks: Masks, values: list[float], share: float, kind: str) -> Finding:
    return Finding(
        "error",
        f"masks of {masks.key} are interpolated: {listed(values)} are {kind}, on {share:.1%} of the pixels",
        "resize and turn masks by the nearest pixel, not by interpolation",
        Where(loader=masks.key, key=masks.loader.target_key),
        {"values": values[:20], "share": share},
    )
