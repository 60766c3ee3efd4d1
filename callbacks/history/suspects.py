"""Which labels are probably wrong, and what they should be, by what a model made of the samples while it trained."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_BLOCK = 16_384
_LEAST = 5  # suspects, where so many labels are not the likeliest class
FROM_EPOCH = 3  # before, right labels are often as unlikely as wrong ones


@dataclass(frozen=True)
class Suspects:
    """Samples whose label is probably wrong, the surest first.

    Attributes:
        index: [n], numbers of the samples.
        target: [n], their classes.
        likely: [n], the classes that they probably are.
        score: [n], mean probability of that class less that of the target, 0 to 1.
    """

    index: np.ndarray
    target: np.ndarray
    likely: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


def rank_labels(
    target: np.ndarray, mean_probability: np.ndarray, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each sample the largest mean probability of another class less that of its own, and that class.

    Args:
        target: [n], class numbers from 0 to C - 1.
        mean_probability: [n, C], of each class over the epochs, C of at least 2; or [n, K] of some.
        classes: [n, K], of which classes these are, each once; None: of all in their order. Others count as 0.

    Returns:
        [n], -1 to 1, the larger the less likely the label; and [n], class numbers.
    """
    score, likely = np.zeros(len(target)), np.zeros(len(target), np.int64)
    for rows in _blocks(len(target)):
        number = _numbers(mean_probability, classes, rows)
        is_own = number == target[rows, None]
        others = np.where(is_own, -np.inf, mean_probability[rows])
        best = others.argmax(axis=1)
        each = np.arange(len(best))
        own = np.where(is_own, mean_probability[rows], 0).sum(axis=1, dtype=np.float64)
        score[rows] = others[each, best] - own
        likely[rows] = np.broadcast_to(number, others.shape)[each, best]
    return score, likely


def find_suspects(target: np.ndarray, mean_probability: np.ndarray, classes: np.ndarray | None = None) -> Suspects:
    """Return the samples that are probably of another class than their label, by confident learning.

    A sample is confidently of the class of its largest probability among those that are at least the mean one of the
    samples labelled so. How many of the samples labelled i are confidently of j tells how many labels i should be j. So
    many are suspects, those whose probability of j exceeds that of i most. None is whose label is its likeliest class.
    (Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021, equations 1 to 3 and "prune
    by noise rate".) Where these are fewer than five, the first of the others whose label is not their likeliest class
    join them.

    Args:
        target: [n], class numbers from 0 to C - 1; another number is no class.
        mean_probability: [n, C], of each class over the epochs, C of at least 2; NaN where nothing is known. Or [n, K]
            of some.
        classes: [n, K], of which classes these are, each once; None: of all in their order. Others count as 0.
    """
    of_class = (target >= 0) & ((classes is not None) | (target < mean_probability.shape[1]))
    known = np.flatnonzero(of_class & np.isfinite(mean_probability).all(axis=1))
    shares = mean_probability
    if len(known) < len(target):
        target, shares, classes = target[known], shares[known], None if classes is None else classes[known]
    score, likely = rank_labels(target, shares, classes)
    chosen = np.zeros(len(target), bool)
    by_label = np.argsort(target, kind="stable")
    labels = target[by_label]
    for label, other, most in _wrong_labels(target, shares, classes):
        rows = by_label[slice(*np.searchsorted(labels, [label, label + 1]))]
        excess = _shares_of(other, rows, shares, classes) - _shares_of(label, rows, shares, classes)
        chosen[rows[np.argsort(-excess, kind="stable")[:most]]] = True
    order = np.argsort(-score, kind="stable")
    order = order[score[order] > 0]
    # Two wrong labels among hundreds are too few for counts.
    chosen[order[~chosen[order]][: max(0, _LEAST - int(chosen[order].sum()))]] = True
    found = order[chosen[order]]
    return Suspects(known[found], target[found], likely[found], score[found])


def _wrong_labels(target: np.ndarray, shares: np.ndarray, classes: np.ndarray | None) -> Iterator[tuple[int, int, int]]:
    """Yield label, another class, and how many samples labelled so should be of it, where there are any."""
    widest = shares.shape[1] - 1 if classes is None else classes.max(initial=0)
    count = 1 + int(max(widest, target.max(initial=0)))
    labelled = np.bincount(target, minlength=count)
    own = np.zeros(len(target))
    for part in _blocks(len(target)):
        is_own = _numbers(shares, classes, part) == target[part, None]
        own[part] = np.where(is_own, shares[part], 0).sum(axis=1, dtype=np.float64)
    # Of a class without samples nobody knows what is usual, and no sample is confidently of it.
    usual = np.where(labelled > 0, np.bincount(target, own, count) / np.maximum(labelled, 1), np.inf)
    confident = np.full(len(target), -1)
    for part in _blocks(len(target)):
        number = _numbers(shares, classes, part)
        sure_ones = np.where(shares[part] >= usual[number], shares[part], -np.inf)
        best, each = sure_ones.argmax(axis=1), np.arange(len(sure_ones))
        found = np.broadcast_to(number, sure_ones.shape)[each, best]
        confident[part] = np.where(np.isfinite(sure_ones[each, best]), found, -1)
    rows = np.flatnonzero(confident >= 0)
    # Pairs of label and class, of which few of all C * C occur.
    pairs, counts = np.unique(target[rows].astype(np.int64) * count + confident[rows], return_counts=True)
    sure = np.bincount(target[rows], minlength=count)
    for pair, of_pair in zip(pairs.tolist(), counts.tolist(), strict=True):
        label, other = divmod(pair, count)
        # The samples that are confidently of no class are shared out like the others of their label.
        most = int(np.rint(of_pair * (labelled[label] / sure[label])))
        if label != other and most:
            yield label, other, most


def _shares_of(one: int, rows: np.ndarray, shares: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """Return the probability of a class in some rows."""
    found = shares[rows, one] if classes is None else np.where(classes[rows] == one, shares[rows], 0).sum(axis=1)
    return np.asarray(found, dtype=np.float64)


def _numbers(shares: np.ndarray, classes: np.ndarray | None, rows: slice) -> np.ndarray:
    """Return of which classes the columns of some rows are, [C], or [n, K]."""
    return np.arange(shares.shape[1]) if classes is None else classes[rows]


def _blocks(count: int) -> Iterator[slice]:
    """Yield slices of rows, so that what is made of many classes stays small."""
    yield from (slice(first, first + _BLOCK) for first in range(0, count, _BLOCK))
