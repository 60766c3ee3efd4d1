"""Which boxes are probably missing, false or of another class, by what a detector found in the last epochs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..measures.box_evidence import DOUBT, EXTRA
from .suspects import Suspects

LEAST_PRECISION = 0.6  # mean average precision of the samples from which on a detector can be asked
LEAST_SUPPORT = 0.15  # of the usual score: a box has none that is supported by less
SURER = 0.1  # a detection without a box must exceed the usual score by so much of it, or by half of what lacks to 1
LEAST_EXCESS = 0.2  # of the usual score, by which another class must be surer than that of the box
MOST = 0.1  # of the samples are suspects of one kind


def find_box_suspects(recent: Sequence[Mapping[str, np.ndarray]]) -> Suspects | None:
    """Return which boxes are probably missing, false or of another class, at most one of each kind per sample.

    What is usual is the mean score of the detections that hit a true box. As in confident learning (Northcutt et al.,
    2021), a detection is sure that reaches it, so that detectors whose scores are all low are judged by the same rule:

    =============== ================================================================================================
    kind            samples that were seen in the last epoch
    =============== ================================================================================================
    ``missing_box`` whose surest detection far from all boxes is surer by 10%, or half of what lacks to 1; score: half
                    of it in usual ones
    ``swapped_box`` with a box that another class finds, surer than its own does by a fifth of what is usual; score: a
                    half more than half of the difference
    ``false_box``   with a box that no detection supports by 15% of what is usual; score: half of what it lacks, as
                    objects that are hard to see lack support too
    =============== ================================================================================================

    Scores are means over the epochs given, up to 1; an epoch in which there was no such detection or box counts as 0.
    ``measures.box_evidence`` says what these are, and compares with ObjectLab (Tkachenko et al., 2023). Class and place
    are those of the last epoch: an augmented picture shows a box at another place in each epoch, and may not show it at
    all, so that over epochs only the sample is the same.

    Nothing tells while the mean average precision of the samples is below 0.6, as a detector that is not trained finds
    all boxes unlikely. Of one kind there are at most a tenth of the samples, the surest: of more, the detector errs.

    Args:
        recent: of each of the last epochs, the newest last, the columns of the file, [n] each; NaN: not known.

    Returns:
        The suspects, the surest first; None: nothing tells which there are.
    """
    # A run that goes on may have files without these columns.
    recent = [epoch for epoch in recent if "hit_score" in epoch]
    if not recent or not _mean(recent[-1]["score"]) >= LEAST_PRECISION:
        return None
    last, seen = recent[-1], np.array([np.isfinite(epoch["boxes"]) for epoch in recent])
    usual = float(np.nanmean([_mean(epoch["hit_score"]) for epoch in recent]))
    extra = _over_epochs([epoch["extra_score"] for epoch in recent], seen)
    is_swapped = [np.isfinite(epoch["doubt_likely"]) for epoch in recent]
    doubts = [epoch["doubt"] for epoch in recent]
    excess = _over_epochs([np.where(of, doubt, 0) for of, doubt in zip(is_swapped, doubts, strict=True)], seen)
    lack = _over_epochs([np.where(of, 0, doubt) for of, doubt in zip(is_swapped, doubts, strict=True)], seen)
    support = (1 - lack) / usual
    missing = seen[-1] & np.isfinite(last["extra_score"]) & (extra >= min((1 + SURER) * usual, (1 + usual) / 2))
    swapped = seen[-1] & is_swapped[-1] & (excess >= LEAST_EXCESS * usual)
    false = seen[-1] & np.isfinite(last["doubt"]) & ~is_swapped[-1] & (support <= LEAST_SUPPORT)
    none = np.full(len(extra), np.nan)
    found = [
        _Found("missing_box", missing, none, last["extra_label"], extra / (2 * usual), [last[of] for of in EXTRA]),
        _Found("swapped_box", swapped, last["doubt_label"], last["doubt_likely"], 0.5 + excess / (2 * usual),
               [last[of] for of in DOUBT]),
        _Found("false_box", false, last["doubt_label"], none, (1 - support) / 2, [last[of] for of in DOUBT]),
    ]  # fmt: skip
    most = max(1, int(MOST * seen[-1].sum()))
    return Suspects.joined([_surest(of, most) for of in found])


class _Found(NamedTuple):
    kind: str
    which: np.ndarray  # [n], bool
    target: np.ndarray  # [n], NaN: none
    likely: np.ndarray  # [n], NaN: none
    score: np.ndarray  # [n]
    corners: Sequence[np.ndarray]  # four of [n]


def _surest(found: _Found, most: int) -> Suspects:
    rows = np.flatnonzero(found.which)
    rows = rows[np.argsort(-found.score[rows], kind="stable")][:most]
    target, likely = (
        np.where(np.isfinite(of[rows]), of[rows], -1).astype(np.int64) for of in (found.target, found.likely)
    )
    suspects = Suspects.of(found.kind, rows, target, likely, np.clip(found.score[rows], 0, 1))
    corners = np.stack([of[rows] for of in found.corners], axis=1)
    return replace(suspects, where=[_place(of) for of in corners.tolist()])


def _place(corners: Sequence[float]) -> str:
    """Return corners as a text; empty where they are not known, as half precision does not hold them."""
    return " ".join(f"{value:g}" for value in corners) if np.isfinite(corners).all() else ""


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def _over_epochs(values: Sequence[np.ndarray], seen: np.ndarray) -> np.ndarray:
    """Return the means over the epochs in which samples were seen, [n]; what is not known counts as 0."""
    sums: np.ndarray = np.nan_to_num(np.array(values, np.float64)).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return sums
