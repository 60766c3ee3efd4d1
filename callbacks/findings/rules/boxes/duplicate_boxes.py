"""Boxes that are twice in one image.

Source: tables that were joined or concatenated twice.
Cost: none.
Risk: several labels for one thing are boxes of their own; only the same box with the same label counts.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import ENOUGH, boxes_of, four

_HARMFUL = 0.05  # share of the boxes; a few are slips of a hand


@rule("duplicate-boxes", at="data", explained_by=["one-item", "empty-boxes"])
def duplicate_boxes(probe: Probe) -> Iterator[Finding]:
    """Find images in which boxes with the same corners and label come twice."""
    for boxes in boxes_of(probe):
        if len(boxes.all) < ENOUGH:
            continue
        rows = [_rows(four(sample), sample.box_labels) for sample in boxes.samples]
        extra = [len(it) - len(np.unique(it, axis=0)) for it in rows]
        if sum(extra) >= _HARMFUL * len(boxes.all):
            names = tuple(it.name for it, more in zip(boxes.samples, extra, strict=True) if more)[:8]
            yield Finding(
                "warning",
                f"{sum(extra):,} of {len(boxes.all):,} boxes of {boxes.key} are there twice in their image",
                "drop the copies where boxes are read",
                Where(loader=boxes.key, key=boxes.loader.target_key, samples=names),
                {"copies": sum(extra), "boxes": len(boxes.all)},
            )


def _rows(boxes: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
    if labels is None or np.size(labels) != len(boxes):
        return boxes
    return np.column_stack([boxes, np.reshape(labels, -1)])
