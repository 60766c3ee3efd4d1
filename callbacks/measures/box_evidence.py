"""What the detections of an image say against its true boxes: an object without a box, and a box that is in doubt."""

import numpy as np

from .box_matching import Boxes, box_iou, covered_share, crowds_of, match_overlaps

_BOX = ("x1", "y1", "x2", "y2")
EXTRA, DOUBT = (tuple(f"{of}_{side}" for side in _BOX) for of in ("extra", "doubt"))
EVIDENCE = ("hit_score", "extra_score", "extra_label", *EXTRA, "doubt", "doubt_label", "doubt_likely", *DOUBT)
"""The numbers of an image, see ``box_evidence``."""
LABELS = ("extra_label", "doubt_label", "doubt_likely")  # those that are whole

_NEAR = 0.3  # overlap from which on a detection and a true box may be of the same object
_TINY = 8.0  # pixels of the shorter side, the finest step of the maps that common detectors predict from
_COVERED = 0.7  # share of one box within another from which on it may be a part of it
_MOST = 2048  # labels up to it are exact in half precision


def box_evidence(found: Boxes, true: Boxes, *, min_score: float, min_iou: float) -> list[float]:
    """Return what speaks against the boxes of one image.

    The *extra* detection is the surest one that is near no true box of any label: neither overlaps it by 0.3 or more,
    nor has 70% of its area within the other. Second detections of an object that has a box are none, then, nor are
    parts and groups of such objects. (Tkachenko et al., "ObjectLab: Automated Diagnosis of Mislabeled Images in Object
    Detection Data", 2023, "overlooked", where a detection is the more suspect the less it resembles any true box.)

    The box *in doubt* is the true box that another label finds more surely than its own does, by the difference of the
    two scores, if it finds it at least as surely as true boxes of this image are found (the same, "swapped"). Where
    there is none, it is the one that detections of any label support least, by 1 less the largest score among those
    that overlap it by 0.3 or more. Boxes of which another one covers 30% or more are left out there, as of two objects
    that overlap a detector often keeps one, and those with a side below 8 pixels, which detectors often miss.

    Boxes are widened by a pixel on each side before they are compared, as tiny ones would be far from each other by an
    error of a pixel. What a crowd covers is no extra detection, and a crowd is not in doubt.

    Args:
        found: ``boxes`` [P, 4] in pixels (left, top, right, bottom), ``scores`` [P], ``labels`` [P].
        true: ``boxes`` [M, 4], ``labels`` [M] and, where there are crowds, ``iscrowd`` [M].
        min_score: stands for the scores of the hits in an image without any.
        min_iou: smallest overlap at which a box is hit, see ``match_boxes``.

    Returns:
        The numbers of ``EVIDENCE``; NaN where there is none.

        ======================== ==================================================================================
        number                   value
        ======================== ==================================================================================
        ``hit_score``            mean score of the detections that hit a true box of their label
        ``extra_score``          of the extra detection, 0 to 1
        ``extra_label``          its label
        ``extra_x1`` to ``_y2``  its corners
        ``doubt``                how far the true box is in doubt, 0 to 1
        ``doubt_label``          its label
        ``doubt_likely``         label of the detection that finds it; NaN: it lacks support
        ``doubt_x1`` to ``_y2``  its corners
        ======================== ==================================================================================

        Labels from 2048 on are NaN, as the numbers are kept in half precision.

    Example:
        >>> boxes = np.array([[0.0, 0.0, 10.0, 10.0], [40.0, 40.0, 50.0, 50.0]])
        >>> found = {"boxes": boxes, "scores": np.array([0.75, 0.5]), "labels": np.array([1, 2])}
        >>> values = box_evidence(found, {"boxes": boxes[:1], "labels": np.array([1])}, min_score=0.5, min_iou=0.5)
        >>> dict(zip(EVIDENCE, values))["hit_score"], values[1:7], values[7]
        (0.75, [0.5, 2.0, 40.0, 40.0, 50.0, 50.0], 0.25)
    """
    is_crowd = crowds_of(true)
    alone = {name: true[name][~is_crowd] for name in ("boxes", "labels")}
    is_known = np.isfinite(found["boxes"]).all(axis=1) & np.isfinite(found["scores"])
    found = {name: found[name][is_known] for name in ("boxes", "scores", "labels")}
    same = found["labels"].reshape(-1, 1) == alone["labels"].reshape(1, -1)
    hit = match_overlaps(box_iou(found["boxes"], alone["boxes"]) * same, found["scores"], min_iou).hit
    usual = float(found["scores"][hit].mean()) if hit.any() else np.nan
    least = min_score if np.isnan(usual) else usual
    covered = np.any(covered_share(found["boxes"], true["boxes"][is_crowd]) >= 0.5, axis=1, keepdims=True)
    near = _widened(found["boxes"]), _widened(alone["boxes"])
    numbers = [usual, *_extra(found, near, covered), *_doubt(found, alone, box_iou(*near), same, hit, least, min_iou)]
    return [
        value if abs(value) < _MOST or name not in LABELS else np.nan
        for name, value in zip(EVIDENCE, numbers, strict=True)
    ]


def _widened(boxes: np.ndarray) -> np.ndarray:
    wide: np.ndarray = boxes + np.array([-1.0, -1.0, 1.0, 1.0])
    return wide


def _extra(found: Boxes, near: tuple[np.ndarray, np.ndarray], covered: np.ndarray) -> list[float]:
    """Return score, label and corners of the surest detection that is near no true box, given both widened."""
    is_near = (
        (box_iou(*near) >= _NEAR) | (covered_share(*near) >= _COVERED) | (covered_share(*near[::-1]).T >= _COVERED)
    )
    scores = np.where(np.concatenate([is_near, covered], axis=1).any(axis=1), -np.inf, found["scores"])
    best = int(scores.argmax()) if len(scores) else 0
    if not len(scores) or scores[best] == -np.inf:
        return [np.nan] * 6
    return [float(scores[best]), float(found["labels"][best]), *found["boxes"][best].tolist()]


def _doubt(
    found: Boxes, true: Boxes, overlaps: np.ndarray, same: np.ndarray, hit: np.ndarray, least: float, min_iou: float
) -> list[float]:
    """Return doubt, label, likely label and corners of the true box that is most in doubt.

    Args:
        found: see ``box_evidence``.
        true: without crowds.
        overlaps: [P, M], of widened boxes.
        same: [P, M], whether labels are equal.
        hit: [P], detections that hit a true box of their label.
        least: score from which on a detection of another label counts.
        min_iou: overlap from which on it does.
    """
    if not len(true["labels"]):
        return [np.nan] * 7
    scores = found["scores"].astype(np.float64).reshape(-1, 1)
    supports = np.where(overlaps >= _NEAR, scores, 0.0)
    own = np.where(same, supports, 0.0).max(axis=0, initial=0.0)
    # One that hits another true box is of that one.
    rival = np.where((overlaps >= min_iou) & ~same & ~hit.reshape(-1, 1) & (scores >= least), scores, 0.0)
    swapped = rival.max(axis=0, initial=0.0) - own
    best = int(swapped.argmax())
    doubt, likely = float(swapped[best]), np.nan
    if doubt > 0:
        likely = float(found["labels"][rival[:, best].argmax()])
    else:
        lacks = np.where(_is_clear(true["boxes"]), 1.0 - supports.max(axis=0, initial=0.0), -np.inf)
        best = int(lacks.argmax())
        doubt = float(lacks[best])
        if doubt < 0:
            return [np.nan] * 7
    return [doubt, float(true["labels"][best]), likely, *true["boxes"][best].tolist()]


def _is_clear(boxes: np.ndarray) -> np.ndarray:
    """Return which true boxes a detector must find by itself: neither tiny, nor with another one before or behind."""
    others = covered_share(boxes, boxes)
    np.fill_diagonal(others, 0.0)
    is_seen: np.ndarray = others.max(axis=1, initial=0.0) < _NEAR
    is_seen &= (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= _TINY
    return is_seen
