"""Boxes beyond the image, as of an image of another size.

Source: images that are resized or cropped while their boxes are not.
Cost: none.
Risk: boxes of cut things that were not clipped; some pixels are allowed, and few boxes are not told.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import ENOUGH, Boxes, boxes_of, inside, other_of, upright

_NOTE, _WARNING = 0.05, 0.2  # share of the boxes: a random crop that does not clip cuts a tenth
_LARGER, _ALIKE = 1.15, 0.2  # by how much both axes must be exceeded, and by how much alike, to be of one scale


@rule("boxes-outside", at="data", explained_by=["one-item", "box-format", "exchanged-axes", "normalized-boxes"])
def boxes_outside(probe: Probe) -> Iterator[Finding]:
    """Find boxes that reach beyond their images."""
    found = [boxes for boxes in boxes_of(probe) if len(boxes.all) >= ENOUGH]
    for boxes in found:
        other = other_of(boxes, found)
        outside = ~inside(boxes.all, boxes.sizes) & upright(boxes.all)
        usual = 0.0 if other is None else float((~inside(other.all, other.sizes)).mean())
        part = float(outside.mean())
        # What both loaders have is how the data is annotated, unless it is most of it.
        if part < _NOTE or (part < 0.5 and part < 2 * usual):
            continue
        yield _finding(boxes, outside, part)


def _finding(boxes: Boxes, outside: np.ndarray, part: float) -> Finding:
    scale = _scale(boxes)
    why = f", as if they were of images {scale:.1f} times as large" if scale else ""
    do = "resize boxes with the image" if scale else "crop and clip boxes with the image"
    return Finding(
        "error" if part >= 0.5 or scale else "warning" if part >= _WARNING else "note",
        f"{part:.0%} of the {len(boxes.all):,} boxes of {boxes.key} reach beyond their images{why}",
        f"{do} in the transform of {boxes.key}",
        Where(loader=boxes.key, key=boxes.loader.target_key, samples=boxes.named(outside)),
        {"outside": part, "scale": scale},
    )


def _scale(boxes: Boxes) -> float | None:
    across, along = (float(np.quantile(boxes.all[:, 2 + axis] / boxes.sizes[:, axis], 0.98)) for axis in (0, 1))
    low = float(np.quantile(boxes.all[:, :2] / boxes.sizes, 0.02))
    alike = abs(across - along) < _ALIKE * max(across, along)
    return (across + along) / 2 if min(across, along) > _LARGER and alike and low > -0.02 else None
