"""Training in which most images have no box, or one alone, while validation has more.

Source: transforms that drop boxes, readers that keep the last row of each image.
Cost: none.
Risk: random crops leave things out, so far fewer images must have a box than in validation; images without boxes in
both loaders are as the data is.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import FEWEST, Boxes, boxes_of, other_of

_MORE, _SPREADS = 0.4, 5.0  # of images without boxes; as for empty masks, and crops for detectors are smaller
_SINGLE = 20  # images with a single box each, while others have more
_SEVERAL = 0.3  # share of the other loader's images with several


@rule("missing-boxes", at="data", explained_by=["one-item"])
def missing_boxes(probe: Probe) -> Iterator[Finding]:
    """Find training with far fewer boxes than validation, and loaders without any."""
    found = [boxes for boxes in boxes_of(probe) if len(boxes.samples) >= FEWEST]
    for boxes in found:
        other = other_of(boxes, found)
        if told := (_none(boxes, other) or _fewer(boxes, other) or _single(boxes, other)):
            yield Finding(
                "error" if not boxes.counts.any() else "warning",
                told,
                f"look at how boxes of {boxes.key} are read, and which of them its transform drops",
                Where(loader=boxes.key, key=boxes.loader.target_key),
                {"images": len(boxes.samples), "boxes": int(boxes.counts.sum())},
            )


def _none(boxes: Boxes, other: Boxes | None) -> str:
    if boxes.counts.any() or other is None or not other.counts.any():
        return ""
    count = f"{len(boxes.samples):,}"
    return f"none of the {count} images of {boxes.key} has a box, while {_having(other):.0%} of {other.key} have"


def _fewer(boxes: Boxes, other: Boxes | None) -> str:
    if other is None or not boxes.loader.trains:
        return ""
    here, there = _having(boxes), _having(other)
    mean = np.average([here, there], weights=[len(boxes.samples), len(other.samples)])
    error = np.sqrt(mean * (1 - mean) * (1 / len(boxes.samples) + 1 / len(other.samples)))
    if there - here <= max(_MORE, _SPREADS * error):
        return ""
    return f"{1 - here:.0%} of the images of {boxes.key} have no box, against {1 - there:.0%} in {other.key}"


def _single(boxes: Boxes, other: Boxes | None) -> str:
    if (
        other is None
        or len(boxes.samples) < _SINGLE
        or boxes.counts.max() != 1
        or float((other.counts > 1).mean()) < _SEVERAL
    ):
        return ""
    mean = f"{other.counts.mean():.1f}"
    return f"no image of {boxes.key} has more than one box, while those of {other.key} have {mean} on average"


def _having(boxes: Boxes) -> float:
    return float((boxes.counts > 0).mean())
