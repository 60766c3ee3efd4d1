"""Masks of 0 and 255 where 0 and 1 are meant, divided by 255 once too often, or normalized as images are.

Source: masks are stored as black and white pictures; the most frequent fault in questions on segmentation.
Cost: the values of masks that are read anyway.
Risk: 255 alone beside 0 is what no class is called; maps of numbers have more values, or a loss of numbers.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .masks import VOID, Masks, listed, masks_of, other_of

_ENDS = 0.8  # share of pixels at 0 and 255; the rest are borders that JPEG or scaling has blurred
_SOME = 0.002  # share of pixels at 255
_SMALL = 0.1  # no probability that is worth a mask; 25 classes divided by 255 are below
_FEW = 40  # values of masks of classes
_OF_NUMBERS = ("mse", "l1", "smooth_l1", "huber")


@rule("mask-scale", at="data", explained_by=["one-item"])
def mask_scale(probe: Probe) -> Iterator[Finding]:
    """Find masks whose values are 0 and 255, or fractions, instead of classes."""
    if probe.settings.task == "regression" or any(it.criterion.kind in _OF_NUMBERS for it in probe.settings.terms):
        return
    found = masks_of(probe)
    by_cause: dict[str, list[tuple[Masks, str]]] = defaultdict(list)
    for masks in found:
        told = _black_and_white(masks, _ignored(probe)) or _tiny(masks) or _normalized(masks)
        if told:
            by_cause[told[1]].append((masks, told[0]))
    for why, alike in by_cause.items():
        others = [other for masks, _ in alike if (other := other_of(masks, found))]
        other = next((it for it in others if it not in [masks for masks, _ in alike]), None)
        yield _finding([masks for masks, _ in alike], other, alike[0][1], why)


def _ignored(probe: Probe) -> bool:
    losses = [term.criterion.ignore_index for term in probe.settings.terms]
    return VOID in [*losses, *(metric.ignore_index for metric in probe.settings.metrics)]


def _black_and_white(masks: Masks, ignored: bool) -> tuple[str, str] | None:
    ends, top = masks.shares.get(0.0, 0.0) + masks.shares.get(float(VOID), 0.0), masks.shares.get(float(VOID), 0.0)
    others = [value for value in masks.shares if value not in (0, VOID)]
    # Classes beside void begin at 1; what a border is blurred to has many values in between.
    blurred = not others or (len(others) > 10 and max(others) > VOID / 2 and not ignored)
    if not blurred or max(masks.shares) != VOID or min(masks.shares) < 0 or ends < _ENDS or top < _SOME:
        return None
    what = "hold 0 and 255 instead of 0 and 1"
    why = (
        "255 is ignored, so that only background is left"
        if ignored
        else "the loss takes 255 for a class or a probability"
    )
    return f"{what} ({top:.1%} of the pixels are 255)", why


def _tiny(masks: Masks) -> tuple[str, str] | None:
    values = list(masks.shares)
    if len(values) > _FEW or values[0] < 0 or not 0 < values[-1] < _SMALL:
        return None
    return f"hold {listed(values)} instead of whole numbers", "as if they were divided by 255 once too often"


def _normalized(masks: Masks) -> tuple[str, str] | None:
    values = list(masks.shares)
    broken = all(abs(value - round(value)) > 1e-3 for value in values)
    if not 2 <= len(values) <= _FEW or values[0] >= 0 or not broken:
        return None
    return f"hold {listed(values)} instead of whole numbers", "as if they were normalized like images"


def _finding(alike: Sequence[Masks], other: Masks | None, what: str, why: str) -> Finding:
    masks, keys = alike[0], [one.key for one in alike]
    right = other is not None and all(value == int(value) and value < VOID for value in other.shares)
    against = f", while those of {other.key} hold {listed(list(other.shares))}" if other is not None and right else ""
    return Finding(
        "error",
        f"masks of {' and '.join(keys)} {what}{against}: {why}",
        f"turn the masks of {' and '.join(keys)} into class numbers where they are read, as by mask > 127 or without"
        " scaling",
        Where(loader=", ".join(keys), key=masks.loader.target_key),
        {"values": [float(value) for value in list(masks.shares)[:8]]},
    )
