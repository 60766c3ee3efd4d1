"""Counts of detected boxes over a loader: by score and label, and by true and predicted label."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..support.checkpoint_values import stored_as
from .box_matching import Boxes, box_iou, crowds_of, in_crowd, match_overlaps

BINS = 1000  # of scores from 0 to 1
THRESHOLDS = np.arange(BINS) / BINS
BACKGROUND = -1  # stands as a label for no object


@stored_as("BoxCounts")
class BoxCounts:
    """Counts hits, false alarms and misses of each label by score, and which labels are taken for which.

    Within an image, predictions choose in the order of their scores (the first of equals first), as in COCO's
    evaluation: each takes the true box of its label that is still free and overlaps it most, if their IoU is at least
    ``min_iou``. It is a *hit* then. A prediction without one is left out if at least ``min_iou`` of it lies within a
    crowd of its label, and is false otherwise.

    *Pairs* cover predictions from ``min_score`` on. What is neither hit nor found among them is matched once more by
    the same rule, whatever the labels: these are confusions. The rest is confused with the background.

    Counts are on the host. They grow with the labels that occur, not with the boxes.

    Args:
        min_score: of predictions in pairs.
        min_iou: smallest IoU of a match.

    Attributes:
        images: number of images.
        by_score: by label, int64, [2, BINS]: false and hit predictions by score, at equal steps from 0 to 1.
        true: by label, the number of true boxes that are no crowds.
        pairs: by true and by predicted label, how many boxes; one of both may be ``BACKGROUND``.
        left_out: predictions whose box or score is not finite, and which do not count.
        outside: predictions whose score is not from 0 to 1; they count at the end that is nearer.

    Example:
        >>> counts = BoxCounts()
        >>> true = {"boxes": np.array([[0, 0, 10, 10], [50, 50, 60, 60]]), "labels": np.array([1, 2])}
        >>> counts.update({**true, "labels": np.array([1, 1]), "scores": np.array([0.9, 0.6])}, true)
        >>> counts.pairs
        {1: {1: 1}, 2: {1: 1}}
    """

    def __init__(self, min_score: float = 0.5, min_iou: float = 0.5):
        self.min_score, self.min_iou = min_score, min_iou
        self.images = self.left_out = self.outside = 0
        self.by_score: dict[int, np.ndarray] = {}
        self.true: dict[int, int] = {}
        self.pairs: dict[int, dict[int, int]] = {}

    def update(self, found: Boxes, true: Boxes) -> None:
        """Add an image.

        Args:
            found: ``boxes`` [P, 4] (left, top, right, bottom), ``labels`` [P] and ``scores`` [P].
            true: ``boxes`` [M, 4], ``labels`` [M] and, where there are crowds, ``iscrowd`` [M].
        """
        self.images += 1
        finite = np.isfinite(found["boxes"]).all(axis=1) & np.isfinite(found["scores"])
        self.left_out += int((~finite).sum())
        found = {name: part[finite] for name, part in found.items()}
        single = ~crowds_of(true)
        alone = {name: part[single] for name, part in true.items()}
        overlaps = box_iou(found["boxes"], alone["boxes"])
        hit = match_overlaps(overlaps * _same_label(found, alone), found["scores"], self.min_iou)
        counted = hit.hit | ~in_crowd(found, true, self.min_iou)
        self._add_scores(found, alone, hit.hit, counted)
        kept = counted & (found["scores"] >= np.asarray(self.min_score, dtype=found["scores"].dtype))
        self._add_pairs(found, alone, overlaps, np.where(kept, hit.truth, -1), kept)

    def _add_scores(self, found: Boxes, true: Boxes, hit: np.ndarray, counted: np.ndarray) -> None:
        scores = found["scores"]
        self.outside += int(((scores < 0) | (scores > 1)).sum())
        # In the precision of the scores: 0.7 in single precision is a little less than in double.
        bins = np.searchsorted(THRESHOLDS[1:].astype(scores.dtype), scores, side="right")
        for label in np.unique(found["labels"][counted]).tolist():
            rows = self.by_score.setdefault(label, np.zeros((2, BINS), dtype=np.int64))
            for row, of in zip(rows, (~hit, hit), strict=True):
                row += np.bincount(bins[of & counted & (found["labels"] == label)], minlength=BINS)
        for label, count in zip(*np.unique(true["labels"], return_counts=True), strict=True):
            self.true[int(label)] = self.true.get(int(label), 0) + int(count)

    def _add_pairs(self, found: Boxes, true: Boxes, overlaps: np.ndarray, truth: np.ndarray, kept: np.ndarray) -> None:
        """Add the pairs of an image, given the true box that each prediction hit, or -1."""
        missed = np.ones(len(true["labels"]), dtype=bool)
        missed[truth[truth >= 0]] = False
        others, free = np.flatnonzero(kept & (truth < 0)), np.flatnonzero(missed)
        confused = match_overlaps(overlaps[np.ix_(others, free)], found["scores"][others], self.min_iou)
        taken = confused.truth[confused.hit]
        self._add(true["labels"][~missed], true["labels"][~missed])
        self._add(true["labels"][free[taken]], found["labels"][others[confused.hit]])
        self._add(true["labels"][free[confused.missed]], BACKGROUND)
        self._add(BACKGROUND, found["labels"][others[~confused.hit]])

    def _add(self, true: np.ndarray | int, predicted: np.ndarray | int) -> None:
        for row, column in zip(
            *(one.reshape(-1).tolist() for one in np.broadcast_arrays(true, predicted)), strict=True
        ):
            of_row = self.pairs.setdefault(row, {})
            of_row[column] = of_row.get(column, 0) + 1


def _same_label(found: Boxes, true: Boxes) -> np.ndarray:
    same: np.ndarray = found["labels"].reshape(-1, 1) == true["labels"].reshape(1, -1)
    return same


def merge_counts(parts: Iterable[BoxCounts]) -> BoxCounts:
    """Return the counts of several ranks together."""
    parts = list(parts)
    whole = BoxCounts(parts[0].min_score, parts[0].min_iou)
    for part in parts:
        whole.images += part.images
        whole.left_out += part.left_out
        whole.outside += part.outside
        for label, rows in part.by_score.items():
            whole.by_score[label] = whole.by_score.get(label, 0) + rows
        _add_up(whole.true, part.true)
        for label, row in part.pairs.items():
            _add_up(whole.pairs.setdefault(label, {}), row)
    return whole


def _add_up(sums: dict[int, int], more: Mapping[int, int]) -> None:
    for label, count in more.items():
        sums[label] = sums.get(label, 0) + count


@dataclass(frozen=True)
class BoxCurves:
    """What counts say at each of ``THRESHOLDS``, exactly: predictions from there on count.

    Attributes:
        labels: L, those with a true or a predicted box.
        true: [L], number of true boxes.
        precision: [L, BINS], hits among predictions; NaN where nothing is predicted.
        recall: [L, BINS], share of true boxes that are hit; NaN where there is none.
        f1: [L, BINS], 2 hits / (predictions + true boxes); NaN where there is neither.
    """

    labels: Sequence[int]
    true: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray

    @property
    def best(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest F1 of each label, [L], and the smallest threshold that has it; NaN where it is 0 or NaN."""
        f1 = np.nan_to_num(self.f1)
        best = f1.max(axis=1, initial=0.0)
        value, threshold = np.where(best > 0, (best, THRESHOLDS[f1.argmax(axis=1)]), np.nan)
        return value, threshold


def box_curves(counts: BoxCounts) -> BoxCurves:
    """Return the curves of each label."""
    labels = sorted(counts.by_score.keys() | counts.true.keys())
    none = np.zeros((2, BINS), dtype=np.int64)
    return _curves(
        labels, [counts.by_score.get(label, none) for label in labels], [counts.true.get(label, 0) for label in labels]
    )


def overall_curves(counts: BoxCounts) -> BoxCurves:
    """Return the curves of all boxes together, as one label."""
    rows = sum(counts.by_score.values(), np.zeros((2, BINS), dtype=np.int64))
    return _curves([BACKGROUND], [rows], [sum(counts.true.values())])


def _curves(labels: Sequence[int], by_score: Sequence[np.ndarray], true: Sequence[int]) -> BoxCurves:
    rows = np.array(by_score, dtype=np.int64).reshape(-1, 2, BINS)
    # From each bin up: what has at least that score.
    above = rows[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    hits, predicted, of = above[:, 1], above.sum(axis=1), np.array(true, dtype=np.int64)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, as it should be
        parts = hits / predicted, hits / of[:, None], 2 * hits / (predicted + of[:, None])
    return BoxCurves(labels, of, *parts)


def pair_matrix(counts: BoxCounts) -> tuple[list[int], np.ndarray]:
    """Return the labels that occur among the pairs, L, and their counts: [L + 1, L + 1], int64, true by predicted.

    The last row holds false predictions, the last column missed boxes; where both meet is 0.
    """
    found = {label for row in counts.pairs.values() for label in row} | counts.pairs.keys()
    labels = sorted(found - {BACKGROUND})
    place = {label: index for index, label in enumerate([*labels, BACKGROUND])}
    matrix = np.zeros((len(place), len(place)), dtype=np.int64)
    for true, row in counts.pairs.items():
        for predicted, count in row.items():
            matrix[place[true], place[predicted]] = count
    return labels, matrix


@dataclass(frozen=True)
class BoxScores:
    """What counts say of predictions from ``min_score`` on, for some boxes.

    Attributes:
        true: number of true boxes.
        predicted: number of predictions that count.
        hits: predictions that hit a true box.
    """

    true: int
    predicted: int
    hits: int

    @property
    def precision(self) -> float:
        """Share of hits among predictions; 0 where nothing is predicted, NaN where there is no box at all."""
        return self._share(self.hits, self.predicted)

    @property
    def recall(self) -> float:
        """Share of true boxes that are hit; 0 where there is none, NaN where nothing is predicted either."""
        return self._share(self.hits, self.true)

    @property
    def f1(self) -> float:
        """2 hits / (predictions + true boxes); NaN where there is neither."""
        return self._share(2 * self.hits, self.predicted + self.true)

    def _share(self, part: int, whole: int) -> float:
        return part / max(whole, 1) if self.true or self.predicted else float("nan")


def box_scores(counts: BoxCounts) -> tuple[dict[int, BoxScores], BoxScores]:
    """Return the scores of each label that occurs, as truth or as prediction, and those of all boxes together."""
    true = {label: sum(row.values()) for label, row in counts.pairs.items() if label != BACKGROUND}
    predicted: dict[int, int] = {}
    for row in counts.pairs.values():
        _add_up(predicted, {label: count for label, count in row.items() if label != BACKGROUND})
    hits = {label: counts.pairs.get(label, {}).get(label, 0) for label in true.keys() | predicted.keys()}
    by_label = {label: BoxScores(true.get(label, 0), predicted.get(label, 0), hits[label]) for label in sorted(hits)}
    return by_label, BoxScores(sum(true.values()), sum(predicted.values()), sum(hits.values()))
