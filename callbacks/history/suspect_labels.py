"""Which of several labels of a sample are probably missing or false, by what a model made of it while it trained."""

import numpy as np

from .suspects import LEAST, Suspects, find_suspects

_LEAST_SCORE = 0.3  # of labels, most of which say no and are sure of it: more than of classes
_BLOCK = 16_384  # samples whose labels are looked at once


def rank_label_sets(labels: np.ndarray, mean_probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each sample how unlikely its least likely label is, and which that is.

    Args:
        labels: [n, C], 1 where a label is there, 0 where not, another number where nobody knows.
        mean_probability: [n, C], of each label over the epochs.

    Returns:
        [n], mean probability of the contrary less that of what the label says, -1 to 1, NaN where no label is known;
        and [n], numbers of the labels, -1 where none is known.

    Example:
        >>> rank_label_sets(np.array([[1, 0]]), np.array([[0.75, 0.875]]))
        (array([0.75]), array([1]))
    """
    score, which = np.full(len(labels), np.nan), np.full(len(labels), -1)
    for first in range(0, len(labels) if labels.shape[1] else 0, _BLOCK):
        rows = slice(first, first + _BLOCK)
        excess = _excess(labels[rows], mean_probability[rows])
        which[rows] = excess.argmax(axis=1)
        score[rows] = excess[np.arange(len(excess)), which[rows]]
    known = np.isfinite(score)
    return np.where(known, score, np.nan), np.where(known, which, -1)


def find_label_suspects(labels: np.ndarray, mean_probability: np.ndarray) -> Suspects:
    """Return the labels that are probably missing or false, by confident learning of each label for itself.

    Each label is a task of its own with two classes, that it is there and that it is not, in which ``find_suspects``
    finds what is wrong, from a score of 0.3 on (Thyagarajan et al., "Identifying Incorrect Annotations in Multi-Label
    Classification Data", 2022, section 3: confident learning in one-vs-rest fashion). Where these are fewer than five
    in all, the first of the other labels whose contrary is likelier join them.

    Args:
        labels: [n, C], 1 where a label is there, 0 where not, another number where nobody knows.
        mean_probability: [n, C], of each label over the epochs; NaN where nothing is known.

    Returns:
        Of kind ``missing_label`` and ``false_label``.
    """
    found = _of_labels(labels, mean_probability, 0)
    if len(found) < LEAST:
        # Among these are those that were found.
        more = _of_labels(labels, mean_probability, LEAST)
        chosen = np.isin(_places(more, labels.shape[1]), _places(found, labels.shape[1]))
        chosen[np.flatnonzero(~chosen)[: LEAST - len(found)]] = True
        found = more.chosen(chosen)
    return found


def _places(suspects: Suspects, labels: int) -> np.ndarray:
    """Return a number for each sample and label."""
    return np.asarray(suspects.index * labels + np.maximum(suspects.target, suspects.likely))


def _of_labels(labels: np.ndarray, shares: np.ndarray, least: int) -> Suspects:
    parts = [_of_label(number, labels[:, number], shares[:, number], least) for number in range(labels.shape[1])]
    return Suspects.joined(parts)


def _of_label(number: int, label: np.ndarray, share: np.ndarray, least: int) -> Suspects:
    known = np.flatnonzero((label == 0) | (label == 1))
    both = np.stack([1 - share[known], share[known]], axis=1)
    found = find_suspects(label[known].astype(np.int64), both, least=least, least_score=_LEAST_SCORE)
    is_missing = found.target == 0
    nothing = np.full(len(found), -1)
    which = np.full(len(found), number)
    index, score = known[found.index], found.score
    return Suspects.joined(
        [
            Suspects.of("missing_label", index[is_missing], nothing[is_missing], which[is_missing], score[is_missing]),
            Suspects.of(
                "false_label", index[~is_missing], which[~is_missing], nothing[~is_missing], score[~is_missing]
            ),
        ]
    )


def _excess(labels: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return how much likelier the contrary of each label is, [n, C], -1 to 1; -inf where a label is not known."""
    known = np.isfinite(shares) & ((labels == 0) | (labels == 1))
    return np.where(known, np.where(labels == 1, 1 - 2 * shares, 2 * shares - 1), -np.inf)
