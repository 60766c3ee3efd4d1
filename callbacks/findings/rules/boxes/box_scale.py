"""Boxes that are all in the upper left part of the image, as of a smaller one.

Source: images that are made larger while their boxes are not.
Cost: none.
Risk: images that are padded on the right and below; so both axes must fall short by the same factor, and so must the
size of the boxes, against validation.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import Boxes, boxes_of, normalized, other_of, upright

_FEWEST = 30  # boxes, of which the largest coordinates are known well
_REACH = 0.8  # share of the side that boxes of the other loader reach
_SHORT = 0.75  # of that
_ALIKE = 0.25


@rule("box-scale", at="data", explained_by=["one-item", "normalized-boxes", "box-format", "boxes-outside"])
def box_scale(probe: Probe) -> Iterator[Finding]:
    """Find boxes that reach only a part of their images, in both axes, while those of the other loader reach all."""
    found = [boxes for boxes in boxes_of(probe) if len(boxes.all) >= _FEWEST and not normalized(boxes)]
    for boxes in found:
        other = other_of(boxes, found)
        factor = None if other is None else _factor(boxes, other)
        if factor is not None and other is not None:
            yield Finding(
                "error",
                f"boxes of {boxes.key} lie in the upper left part of their images, as if these were "
                f"{1 / factor:.1f} times smaller than they are: they reach {_reach(boxes).max():.0%} of the sides, "
                f"those of {other.key} {_reach(other).max():.0%}",
                f"resize boxes with the image in the transform of {boxes.key}",
                Where(loader=boxes.key, key=boxes.loader.target_key),
                {"factor": factor},
            )


def _reach(boxes: Boxes) -> np.ndarray:
    reach: np.ndarray = np.quantile(boxes.all[:, 2:] / boxes.sizes, 0.97, axis=0)
    return reach


def _factor(boxes: Boxes, other: Boxes) -> float | None:
    ours, theirs = _reach(boxes), _reach(other)
    ratios = ours / np.maximum(theirs, 1e-6)
    factor = float(ratios.mean())
    of_sizes = _size(boxes) / max(_size(other), 1e-6)
    alike = abs(ratios[0] - ratios[1]) < _ALIKE * factor and abs(of_sizes - factor) < _ALIKE * factor
    return factor if theirs.min() > _REACH and (ratios < _SHORT).all() and alike else None


def _size(boxes: Boxes) -> float:
    good = upright(boxes.all)
    sides = (boxes.all[good, 2:] - boxes.all[good, :2]) / boxes.sizes[good]
    return float(np.sqrt(np.median(sides.prod(1)))) if good.any() else 0.0
