"""Boxes without width or height.

Source: torchvision's detectors refuse them in the middle of training; clipping makes them.
Cost: none.
Risk: none: such a box holds nothing. Where few are there, it is a note.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import count, some
from .boxes import boxes_of, upright, wants_pixels

_HARMFUL = 0.01  # share of the boxes; fewer are single slips of a hand


@rule("empty-boxes", at="data", explained_by=["one-item", "box-format"])
def empty_boxes(probe: Probe) -> Iterator[Finding]:
    """Find boxes whose second corner is not to the right of and below the first one."""
    for boxes in boxes_of(probe):
        empty = ~upright(boxes.all)
        # Numbers of another form, in a project that wants these, are no corners at all.
        if not empty.any() or (empty.mean() > 0.3 and not wants_pixels(probe)):
            continue
        yield Finding(
            "warning" if empty.mean() >= _HARMFUL else "note",
            f"{count(int(empty.sum()), 'box', 'boxes')} of {len(boxes.all):,} of {boxes.key} have no width or no "
            f"height, in {some(boxes.named(empty))}",
            "drop boxes without x2 > x1 and y2 > y1 after the transform",
            Where(loader=boxes.key, key=boxes.loader.target_key, samples=boxes.named(empty)),
            {"empty": int(empty.sum()), "boxes": len(boxes.all)},
        )
