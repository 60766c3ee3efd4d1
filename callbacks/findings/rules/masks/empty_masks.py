"""Masks that are all background, or of one class alone.

Source: masks read in another mode or by a wrong name, of which thresholds leave nothing.
Cost: shares of values of masks that are read anyway.
Risk: most tiles of a large picture are empty, and training may leave out those: only training that is emptier than
validation is told, and all masks together only where so many were read that rare things would have been met.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .masks import FEWEST, Masks, masks_of, other_of

_MANY = 200  # masks without a thing: things in every 50th image would be met with 98% certainty
_CERTAIN = 1e-4  # chance that none of the masks read has what the other loader's have
_MORE, _SPREADS = 0.3, 5.0  # by how much training may be emptier: random crops of sparse things are up to a quarter


@rule("empty-masks", at="data", explained_by=["one-item"])
def empty_masks(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose masks are all empty or full, and training whose masks are far emptier than validation's."""
    found = masks_of(probe)
    for masks in found:
        if len(masks.samples) < FEWEST:
            continue
        other = other_of(masks, found)
        if len(masks.shares) == 1 and _told(masks, other):
            yield _constant(masks, other)
        elif masks.loader.trains and other is not None and _emptier(masks, other):
            yield _emptied(masks, other)


def _told(masks: Masks, other: Masks | None) -> bool:
    if masks.loader.complete or next(iter(masks.shares)) != 0:
        return True
    filled = 0.0 if other is None else float((~other.empty).mean())
    return len(masks.samples) >= _MANY or (1 - filled) ** len(masks.samples) < _CERTAIN


def _constant(masks: Masks, other: Masks | None) -> Finding:
    (value,) = masks.shares
    count = f"all {len(masks.samples):,} masks of {masks.key}{'' if masks.loader.complete else ' that were read'}"
    what = (
        "are empty: every pixel is 0, the background" if value == 0 else f"are of one class: every pixel is {value:g}"
    )
    against = ""
    if other is not None and len(other.shares) > 1:
        against = f", while {100 * float((~other.empty).mean()):.0f}% of those of {other.key} hold more"
    return Finding(
        "error",
        f"{count} {what}{against}",
        f"look at the files of the masks of {masks.key} and at how they become numbers",
        Where(loader=masks.key, key=masks.loader.target_key),
        {"value": value, "masks": len(masks.samples)},
    )


def _emptier(masks: Masks, other: Masks) -> bool:
    if len(other.samples) < FEWEST:
        return False
    here, there = float(masks.empty.mean()), float(other.empty.mean())
    mean = np.average([here, there], weights=[len(masks.samples), len(other.samples)])
    error = np.sqrt(mean * (1 - mean) * (1 / len(masks.samples) + 1 / len(other.samples)))
    return here - there > _MORE and here - there > _SPREADS * error


def _emptied(masks: Masks, other: Masks) -> Finding:
    here, there = float(masks.empty.mean()), float(other.empty.mean())
    return Finding(
        "warning",
        f"{here:.0%} of the masks of {masks.key} are empty, against {there:.0%} in {other.key}: what is to be found is "
        f"missing in training",
        f"look at the masks of {masks.key} that are empty, and at crops that leave the things out",
        Where(
            loader=masks.key,
            samples=tuple(it.name for it, no in zip(masks.samples, masks.empty, strict=True) if no)[:8],
        ),
        {"empty": here, "expected": there},
    )
