"""Boxes in shares of the image's sides where pixels are meant.

Source: YOLO's files and albumentations hold boxes from 0 to 1, torchvision's detectors want pixels.
Cost: none.
Risk: detectors that want shares, as DETR does; so both loaders alike are told only where torchvision's losses or this
package's metrics are there.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import boxes_of, normalized, other_of, wants_pixels


@rule("normalized-boxes", at="data", explained_by=["one-item"])
def normalized_boxes(probe: Probe) -> Iterator[Finding]:
    """Find boxes that all lie between 0 and 1."""
    found = boxes_of(probe)
    for boxes in found:
        other = other_of(boxes, found)
        unlike = other is not None and len(other.all) > 0 and not normalized(other)
        if not len(boxes.all) or not normalized(boxes) or not (unlike or wants_pixels(probe)):
            continue
        against = f", while those of {other.key} reach {other.all.max():.0f}" if unlike and other is not None else ""
        yield Finding(
            "error",
            f"boxes of {boxes.key} are normalized: all {len(boxes.all):,} lie between 0 and {boxes.all.max():.2f} in "
            f"images of up to {boxes.sizes.max():.0f} pixels{against}",
            f"multiply the boxes of {boxes.key} by the width and the height of the image",
            Where(loader=boxes.key, key=boxes.loader.target_key),
            {"highest": float(boxes.all.max()), "boxes": len(boxes.all)},
        )
