"""A class of masks that is nothing but a thin border along the others, as void is drawn.

Source: PASCAL VOC draws what is unsure as a border of 255, which becomes the last class where values are numbered anew.
Cost: neighbours of the pixels of up to 64 masks per loader.
Risk: contours that are a class on purpose, as those that part nuclei; so what both loaders have is a note.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ..class_counts import ignored_labels
from .masks import FEWEST, VOID, Masks, masks_of, other_of, voids
from .rims import Crossings, between_others, class_maps, solid

_MOST_CLASSES = 100
_FEWEST_PIXELS = 60
_SOLID = 0.02  # share of the pixels of lines that have no other class around them
_BETWEEN = 0.8  # share of the pixels of a border that have two other classes beside them
_COVERED = 0.4  # share of the borders of other classes that such a class lies on


@rule("void-as-class", at="data", explained_by=["one-item", "mask-scale", "interpolated-masks"])
def void_as_class(probe: Probe) -> Iterator[Finding]:
    """Find a last class of masks that is a thin border along the others and that the loss learns."""
    found = [masks for masks in masks_of(probe) if len(masks.samples) >= FEWEST]
    for masks in found:
        value = max(masks.shares)
        kept = 3 <= len(masks.shares) <= _MOST_CLASSES and 0 < value < VOID
        if kept and value not in ignored_labels(probe.settings) | voids({*masks.shares}) and _is_border(masks, value):
            yield _finding(masks, value, other_of(masks, found))


def _is_border(masks: Masks, value: float) -> bool:
    maps = class_maps(masks)
    if sum(int((mask == value).sum()) for mask in maps) < _FEWEST_PIXELS or solid(maps, value) > _SOLID:
        return False
    return between_others(maps, value) >= _BETWEEN and Crossings(maps).covered(value) >= _COVERED


def _finding(masks: Masks, value: float, other: Masks | None) -> Finding:
    alone = other is not None and not (value in other.shares and _is_border(other, value))
    covered = Crossings(class_maps(masks)).covered(value)
    against = f", while {other.key} has no such border" if alone and other is not None else ""
    return Finding(
        "warning" if alone else "note",
        f"class {value:g} of the masks of {masks.key} is nothing but a thin border on {covered:.0%} of the borders "
        f"between other classes ({masks.shares[value]:.1%} of the pixels), as void is drawn, and the loss learns "
        f"it{against}",
        f"pass ignore_index={value:g} to the criterion and the metrics if class {value:g} is void, not a class",
        Where(loader=masks.key, key=masks.loader.target_key, field="ignore_index"),
        {"class": value, "covered": covered, "share": masks.shares[value]},
    )
