"""Nearest neighbours among samples, and how far their targets agree with a sample's own."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Whole = NDArray[np.int64]

NEAREST = 5  # neighbours that are asked: one alone is often a duplicate, many are of other classes in small data
_SHUFFLES = 30  # a spread of 30 draws is known within 13%, and thresholds are many spreads wide


@dataclass(frozen=True)
class Relation:
    """How far targets agree with those of the nearest neighbours.

    Attributes:
        score: 1 where they are always the same, 0 where they agree no more often than by chance.
        spread: standard deviation of the score where targets are shuffled.
        count: of the samples.
    """

    score: float
    spread: float
    count: int

    @property
    def clear(self) -> float:
        """How many spreads the score is above chance."""
        return self.score / self.spread


def nearest(queries: Floats, bank: Floats, k: int = NEAREST, *, own: bool = False) -> Whole:
    """Return the ``k`` nearest of a bank for each query, [n, k], the nearest first.

    Args:
        queries: [n, D].
        bank: [m, D].
        k: how many, at most m - 1.
        own: whether queries and bank are the same samples, of which none is its own neighbour.
    """
    distance = queries @ bank.T
    # In its own memory: a table of a million numbers takes longer to allocate than to change.
    distance *= -2
    distance += (bank**2).sum(1)
    distance[np.isnan(distance)] = np.inf  # of values too large to be squared
    if own:
        np.fill_diagonal(distance, np.inf)
    # One after the other takes a tenth of the time that sorting does.
    rows, found = np.arange(len(queries)), np.zeros((len(queries), k), dtype=np.int64)
    for place in range(k):
        found[:, place] = distance.argmin(1)
        distance[rows, found[:, place]] = np.inf
    return found


def relation(near: Whole, bank_targets: Floats, targets: Floats) -> Relation | None:
    """Return how far targets [n, L] agree with those of their neighbours in a bank [m, L]; None where they are alike.

    Args:
        near: [n, k] of ``nearest``.
        bank_targets: numbers, or classes as rows of 0 and 1.
        targets: the same of the queries.
    """
    wanted = targets - targets.mean(0)
    voted = (bank_targets - bank_targets.mean(0))[near].mean(1)
    size = float(np.sqrt((wanted**2).sum() * ((bank_targets - bank_targets.mean(0)) ** 2).sum() * len(near)))
    size /= np.sqrt(len(bank_targets))
    if size == 0:
        return None
    random = np.random.default_rng(0)
    shuffled = [float((wanted[random.permutation(len(wanted))] * voted).sum()) / size for _ in range(_SHUFFLES)]
    score = float((wanted * voted).sum()) / size - float(np.mean(shuffled))
    # A spread of its own where votes are constant.
    return Relation(score, max(float(np.std(shuffled)), 1e-6), len(wanted))


def votes(near: Whole, bank_labels: Whole, classes: int) -> tuple[Whole, Floats]:
    """Return the class that most neighbours of each query have, and its share of the votes; a draw goes by number."""
    counts = np.zeros((len(near), classes), dtype=np.float32)
    np.add.at(counts, (np.arange(len(near))[:, None], bank_labels[near]), 1)
    return counts.argmax(1), counts.max(1) / near.shape[1]


def confusion(labels: Whole, voted: Whole, classes: int) -> Whole:
    """Return how often samples of each class (row) are voted to be of each class (column)."""
    return np.bincount(labels * classes + voted, minlength=classes * classes).reshape(classes, classes)
