"""Which labels are probably wrong, and what they should be, by what a model made of the samples while it trained."""

from dataclasses import dataclass

import numpy as np

FROM_EPOCH = 3  # before, right labels are often as unlikely as wrong ones


@dataclass(frozen=True)
class Suspects:
    """Samples whose label is probably wrong, the surest first.

    Attributes:
        index: [n], numbers of the samples.
        target: [n], their classes.
        likely: [n], the classes that they probably are.
        score: [n], mean probability of that class less that of the target, -1 to 1.
    """

    index: np.ndarray
    target: np.ndarray
    likely: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


def rank_labels(target: np.ndarray, mean_probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each sample the largest mean probability of another class less that of its own, and that class.

    Args:
        target: [n], class numbers from 0 to C - 1.
        mean_probability: [n, C], of each class over the epochs, C of at least 2.

    Returns:
        [n], -1 to 1, the larger the less likely the label; and [n], class numbers.
    """
    rows = np.arange(len(target))
    others = np.array(mean_probability, dtype=np.float64)
    own = others[rows, target]
    others[rows, target] = -np.inf
    likely = others.argmax(axis=1)
    return others[rows, likely] - own, likely


def find_suspects(target: np.ndarray, mean_probability: np.ndarray) -> Suspects:
    """Return the samples that are probably of another class than their label, by confident learning.

    A sample is confidently of the class of its largest probability among those that are at least the mean one of the
    samples labelled so. How many of the samples labelled i are confidently of j tells how many labels i should be j. So
    many are suspects, those whose probability of j exceeds that of i most. None is whose label is its likeliest class.
    (Northcutt et al., "Confident Learning: Estimating Uncertainty in Dataset Labels", 2021, equations 1 to 3 and "prune
    by noise rate".)

    Args:
        target: [n], class numbers from 0 to C - 1; another number is no class.
        mean_probability: [n, C], of each class over the epochs, C of at least 2; NaN where nothing is known.
    """
    classes = mean_probability.shape[1]
    known = np.flatnonzero((target >= 0) & (target < classes) & np.isfinite(mean_probability).all(axis=1))
    target, shares = target[known], mean_probability[known].astype(np.float64)
    score, likely = rank_labels(target, shares)
    most = _wrong_labels(target, shares)
    chosen = np.zeros(len(target), bool)
    for label in range(classes):
        rows = np.flatnonzero(target == label)
        for other in np.flatnonzero(most[label]):
            excess = shares[rows, other] - shares[rows, label]
            chosen[rows[np.argsort(-excess, kind="stable")[: most[label, other]]]] = True
    found = np.flatnonzero(chosen & (score > 0))
    found = found[np.argsort(-score[found], kind="stable")]
    return Suspects(known[found], target[found], likely[found], score[found])


def _wrong_labels(target: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return how many samples labelled i, in rows, should be labelled j, [C, C]; the diagonal is 0."""
    classes = shares.shape[1]
    # Of a class without samples nobody knows what is usual, and no sample is confidently of it.
    usual = np.array([shares[target == of, of].mean() if (target == of).any() else np.inf for of in range(classes)])
    confident = np.where(shares >= usual, shares, -np.inf)
    sure = np.isfinite(confident).any(axis=1)
    counts = np.zeros((classes, classes))
    np.add.at(counts, (target[sure], confident[sure].argmax(axis=1)), 1)
    # The samples that are confidently of no class are shared out like the others of their label.
    labelled = np.bincount(target, minlength=classes)
    wrong: np.ndarray = np.rint(counts * (labelled / np.maximum(counts.sum(axis=1), 1))[:, None]).astype(np.int64)
    np.fill_diagonal(wrong, 0)
    return wrong
