"""Which labels are probably wrong, and what they should be, by what a model made of the samples while it trained."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_BLOCK = 16_384
LEAST = 5  # suspects, where so many labels are not the likeliest class
_LEAST_SCORE = 0.2  # of what is counted: hard samples that are right have lower ones, above all in the first epochs
_TAUGHT = 1.5  # Training teaches wrong labels too, so that the count of them falls short: by a third at most of digits.
FROM_EPOCH = 3  # before, right labels are often as unlikely as wrong ones


SUSPECT_KINDS = (
    "label", "missing_label", "false_label", "region", "missing_box", "false_box", "swapped_box", "duplicate",
)  # fmt: skip
"""What may be wrong with a sample: its class; of several labels one that should be there, or should not; of a mask a
region; of boxes one that should be there, should not, or has another class; a duplicate that has another label."""


@dataclass(frozen=True)
class Suspects:
    """What is probably wrong with the labels of samples, the surest first; of a sample there may be several.

    Attributes:
        index: [n], numbers of the samples.
        kind: [n], int8, place in ``SUSPECT_KINDS``.
        target: [n], the class of the label; -1: there is none.
        likely: [n], the class that is probably right; -1: none.
        score: [n], how sure that is, 0 to 1; of classes and labels the mean probability of what is likely less that of
            what is there.
        where: n texts, ``x1 y1 x2 y2``, the box around what is meant in pixels of the picture as the model saw it;
            empty where it is the whole picture. None: it always is.
    """

    index: np.ndarray
    kind: np.ndarray
    target: np.ndarray
    likely: np.ndarray
    score: np.ndarray
    where: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.index)

    @property
    def kinds(self) -> list[str]:
        """The kind of each."""
        return [SUSPECT_KINDS[code] for code in self.kind.tolist()]

    @property
    def places(self) -> list[str]:
        """The texts ``where``, empty ones where there are none."""
        return [""] * len(self) if self.where is None else [*self.where]

    @property
    def is_first(self) -> np.ndarray:
        """Which are the surest of their samples, [n] bool."""
        found = np.zeros(len(self), bool)
        found[np.unique(self.index, return_index=True)[1]] = True
        return found

    def chosen(self, which: np.ndarray) -> "Suspects":
        """Return some of them, [n] bool, in their order."""
        where = None if self.where is None else [self.where[at] for at in np.flatnonzero(which).tolist()]
        parts = (self.index, self.kind, self.target, self.likely, self.score)
        index, kind, target, likely, score = (part[which] for part in parts)
        return Suspects(index, kind, target, likely, score, where)

    @staticmethod
    def of(kind: str, index: np.ndarray, target: np.ndarray, likely: np.ndarray, score: np.ndarray) -> "Suspects":
        """Return suspects of one kind, [n] each, the surest first."""
        return Suspects(index, np.full(len(index), SUSPECT_KINDS.index(kind), np.int8), target, likely, score)

    @staticmethod
    def joined(parts: Sequence["Suspects"]) -> "Suspects":
        """Return those of several parts; equally sure ones in the order of the parts."""
        if not parts:
            nothing = np.zeros(0, np.int64)
            return Suspects.of("label", nothing, nothing, nothing, np.zeros(0))
        names = ("index", "kind", "target", "likely", "score")
        arrays = [np.concatenate([getattr(part, name) for part in parts]) for name in names]
        places = [place for part in parts for place in part.places]
        order = np.argsort(-arrays[-1], kind="stable")
        index, kind, target, likely, score = (of[order] for of in arrays)
        where = [places[at] for at in order.tolist()] if any(places) else None
        return Suspects(index, kind, target, likely, score, where)


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


def find_suspects(
    target: np.ndarray,
    mean_probability: np.ndarray,
    classes: np.ndarray | None = None,
    *,
    least: int = LEAST,
    least_score: float = _LEAST_SCORE,
) -> Suspects:
    """Return the samples that are probably of another class than their label, by confident learning.

    A sample is confidently of the class of its largest probability among those that are at least the mean one of the
    samples labelled so. How many of the samples labelled i are confidently of j tells how many labels i should be j. So
    many are counted, those whose probability of j exceeds that of i most. None is whose label is its likeliest class.
    (Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021, equations 1 to 3 and "prune
    by noise rate".) The paper takes probabilities of models that were not trained on the sample. Those of training
    itself are of a model that is taught the wrong labels, and early on unsure of all. So of those that are counted only
    a score of ``least_score`` or more is believed, and of all samples with such a score the surest are suspects, half
    as many again as were counted. ``python -m proofs.wrong_labels`` measures that. Where they are fewer than ``least``,
    the first of the others whose label is not their likeliest class join them.

    Args:
        target: [n], class numbers from 0 to C - 1; another number is no class.
        mean_probability: [n, C], of each class over the epochs, C of at least 2; NaN where nothing is known. Or [n, K]
            of some.
        classes: [n, K], of which classes these are, each once; None: of all in their order. Others count as 0.
        least: number of suspects, where so many labels are not the likeliest class.
        least_score: 0 to 1.
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
    is_sure = score >= least_score
    most = min(round(_TAUGHT * int((chosen & is_sure).sum())), int(is_sure.sum()))
    # Two wrong labels among hundreds are too few for counts.
    found = order[: max(most, least)]
    return Suspects.of("label", known[found], target[found], likely[found], score[found])


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
