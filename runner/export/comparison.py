"""Compare the outputs of an exported file with those of the model."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from assay.callbacks.measures.box_matching import box_iou

Outputs = Mapping[str, np.ndarray]


class Difference(NamedTuple):
    """The largest absolute difference, infinite where something is missing or not finite, and what differs."""

    value: float
    what: str


NONE = Difference(0.0, "")
_LEAST_OVERLAP = 0.5
_NEAR = 0.01  # of the image's side


def compare_outputs(expected: Outputs, found: Outputs) -> Difference:
    """Return the largest difference between outputs of the same names."""
    return max((Difference(_largest(expected[name], found[name]), name) for name in expected), default=NONE)


def _largest(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        difference = np.abs(expected - found)
    # NaN minus NaN, or infinity minus itself, is NaN: such values must be equal.
    same = (expected == found) | (np.isnan(expected) & np.isnan(found))
    return float(np.where(np.isfinite(difference), difference, np.where(same, 0.0, np.inf)).max())


def compare_boxes(expected: Outputs, found: Outputs, longest_side: float) -> Difference:
    """Return the largest difference between two sets of boxes of an image, matched by their overlap.

    Args:
        expected: ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].
        found: the same, [Q, 4] and so on.
        longest_side: of the image in pixels: a coordinate's difference counts as a share of it.
    """
    if len(expected["boxes"]) != len(found["boxes"]):
        return Difference(np.inf, f"number of boxes, {len(expected['boxes'])} and {len(found['boxes'])}")
    worst, free = NONE, np.ones(len(found["boxes"]), dtype=bool)
    for index, box in enumerate(expected["boxes"]):
        apart = np.abs(box - found["boxes"]).max(axis=1) / longest_side
        # A box at the border may be without an area: it overlaps nothing, not even itself.
        overlap = np.maximum(box_iou(box, found["boxes"])[0], np.round(1 - apart / _NEAR, 2))
        overlap = np.where(free & (found["labels"] == expected["labels"][index]), overlap, -np.inf)
        match = int(overlap.argmax())
        if overlap[match] < _LEAST_OVERLAP:
            return Difference(np.inf, "a box that only one of them finds")
        free[match] = False
        score = abs(float(expected["scores"][index]) - float(found["scores"][match]))
        worst = max(worst, Difference(float(apart[match]), "coordinates"), Difference(score, "scores"))
    return worst
