"""Matching of predicted boxes with true ones by IoU."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

Boxes = Mapping[str, np.ndarray]  # of one image


@dataclass(frozen=True)
class Matching:
    """The outcome for P predicted and M true boxes.

    Attributes:
        truth: [P], int64, index of the true box that each prediction hit; -1 where it hit none.
        iou: [P], float64, with the box that was hit; 0 where none was.
        missed: [M], bool, true boxes that no prediction hit.
    """

    truth: np.ndarray
    iou: np.ndarray
    missed: np.ndarray

    @property
    def hit(self) -> np.ndarray:
        """[P], bool, predictions that hit a true box."""
        return self.truth >= 0


def match_boxes(
    boxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    true_boxes: np.ndarray,
    true_labels: np.ndarray,
    *,
    min_iou: float = 0.5,
) -> Matching:
    """Match predicted boxes with true ones of the same label, at most one prediction per true box.

    Predictions choose in the order of their scores (the first of equals first): each takes the true box that is
    still free and overlaps it most (the first of equals), if their IoU is at least ``min_iou`` and not 0.

    Args:
        boxes: [P, 4], x and y of the upper left and of the lower right corner.
        scores: [P].
        labels: [P].
        true_boxes: [M, 4].
        true_labels: [M].
        min_iou: 0 to 1.

    Example:
        >>> boxes = np.array([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
        >>> matching = match_boxes(boxes, np.array([0.9, 0.8]), np.array([1, 1]), boxes[:1] + 1, np.array([1]))
        >>> matching.hit.tolist(), matching.missed.tolist(), matching.iou.round(2).tolist()
        ([True, False], [False], [0.68, 0.0])
    """
    # Boxes of other labels overlap by 0, which is no hit whatever ``min_iou`` is.
    overlaps = box_iou(boxes, true_boxes) * (labels.reshape(-1, 1) == true_labels.reshape(1, -1))
    return match_overlaps(overlaps, scores, min_iou)


def crowds_of(true: Boxes) -> np.ndarray:
    """Return which true boxes are crowds, [M] bool: none where nobody says so."""
    return np.asarray(true.get("iscrowd", np.zeros(len(true["labels"]))), dtype=bool).reshape(-1)


def match_beside_crowds(found: Boxes, true: Boxes, *, min_iou: float = 0.5) -> tuple[Matching, np.ndarray]:
    """Match by the rule of ``match_boxes``, where some true boxes may be crowds, which need not be found.

    A prediction that hits no single object does not count if at least ``min_iou`` of it lies within a crowd of its
    label, as in COCO's evaluation.

    Args:
        found: ``boxes`` [P, 4], ``scores`` [P] and ``labels`` [P].
        true: ``boxes`` [M, 4], ``labels`` [M] and, where there are crowds, ``iscrowd`` [M].
        min_iou: 0 to 1.

    Returns:
        The outcome for all predictions and the true boxes that are no crowds; and which predictions count, [P] bool.

    Example:
        >>> true = {"boxes": np.array([[0.0, 0.0, 90.0, 90.0]]), "labels": np.array([1]), "iscrowd": np.array([1])}
        >>> found = {"boxes": true["boxes"] / 9, "labels": np.array([1]), "scores": np.array([0.8])}
        >>> matching, counts = match_beside_crowds(found, true)
        >>> matching.hit.tolist(), matching.missed.tolist(), counts.tolist()
        ([False], [], [False])
    """
    is_crowd = crowds_of(true)
    boxes, labels = true["boxes"], true["labels"]
    matching = match_boxes(
        found["boxes"], found["scores"], found["labels"], boxes[~is_crowd], labels[~is_crowd], min_iou=min_iou
    )
    return matching, matching.hit | ~in_crowd(found, true, min_iou)


def in_crowd(found: Boxes, true: Boxes, min_iou: float) -> np.ndarray:
    """Return which predictions have at least ``min_iou`` of their area within a crowd of their label, [P] bool."""
    is_crowd = crowds_of(true)
    is_same = found["labels"].reshape(-1, 1) == true["labels"][is_crowd].reshape(1, -1)
    covered = covered_share(found["boxes"], true["boxes"][is_crowd]) * is_same
    return np.asarray(((covered > 0) & (covered >= min_iou)).any(axis=1))


def match_overlaps(overlaps: np.ndarray, scores: np.ndarray, min_iou: float) -> Matching:
    """Match by the rule of ``match_boxes``, given the overlap of each predicted with each true box, [P, M]."""
    truth, iou = np.full(len(scores), -1), np.zeros(len(scores))
    free = np.ones(overlaps.shape[1], dtype=bool)
    near = (overlaps > 0) & (overlaps >= min_iou)
    # A stable sort keeps equal scores in their order, so that a match can be reproduced.
    order = np.argsort(-scores, kind="stable")
    # Most predictions of an untrained detector are near nothing: only the others choose, which takes a loop.
    for index in order[near[order].any(axis=1)]:
        overlap = np.where(free & near[index], overlaps[index], 0.0)
        nearest = int(overlap.argmax())
        if overlap[nearest] > 0:
            truth[index], iou[index], free[nearest] = nearest, overlap[nearest], False
    return Matching(truth, iou, free)


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the area of intersection over that of the union of every pair of boxes, 0 where a box has no area.

    Args:
        first: [A, 4], x and y of the upper left and of the lower right corner.
        second: [B, 4].

    Returns:
        [A, B], float64, 0 to 1.
    """
    shared, first_area, second_area = _areas(first, second)
    return _divide(shared, first_area + second_area - shared)


def covered_share(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return which share of each box [A, 4] lies within each box [B, 4]: [A, B], float64, 0 to 1."""
    shared, area, _ = _areas(first, second)
    return _divide(shared, area)


def _areas(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the area that each pair shares, [A, B], and those of the boxes, [A, 1] and [1, B]."""
    first, second = first.astype(np.float64).reshape(-1, 1, 4), second.astype(np.float64).reshape(1, -1, 4)
    corner, opposite = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    return (opposite - corner).clip(min=0.0).prod(axis=-1), _area(first), _area(second)


def _divide(shared: np.ndarray, area: np.ndarray) -> np.ndarray:
    # An area of 0 belongs to a shared area of 0, for which the quotient is not used.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(shared > 0, shared / area, 0.0)


def _area(boxes: np.ndarray) -> np.ndarray:
    area: np.ndarray = (boxes[..., 2:] - boxes[..., :2]).clip(min=0.0).prod(axis=-1)
    return area
