"""How training and validation number the classes, by which class the neighbours of each are of."""

from dataclasses import dataclass
from math import comb

import numpy as np

from .compared import Compared
from .neighbours import Whole, confusion, votes

_FEWEST = 3  # samples of a class in validation, of which its neighbours' class can be told
# Chance of a false alarm over all pairs of classes.
_RISK = 1e-4
_CONTROL = 0.6  # share of pairs that the loader tells apart by itself, so that it is not the two classes that are alike
_ENOUGH = 8  # samples of a class, with fewer of which five neighbours are mostly of other classes
_MAINLY = 0.35  # of the samples of a class; some are near a third one
_LEAST_CONFUSED = 0.25  # how often two classes are taken for each other between loaders that differ, however clear each


@dataclass(frozen=True)
class Exchange:
    """Two classes that validation has the other way round.

    Attributes:
        one: the lower class.
        other: the higher class.
        crossed: samples of validation that are near the other class.
        straight: those that are near their own.
    """

    one: int
    other: int
    crossed: int
    straight: int


def tail(hits: int, count: int, chance: float = 0.5) -> float:
    """Return the chance of at least so many hits in so many tries, of fair coin flips unless it is told."""
    return float(sum(comb(count, k) * chance**k * (1 - chance) ** (count - k) for k in range(hits, count + 1)))


def across(pair: Compared) -> Whole:
    """Return the confusion of validation's labels with the votes of neighbours in training."""
    return _confused(pair.near, pair.train.labels, pair.valid.labels, pair.classes)


def exchanges(pair: Compared) -> list[Exchange]:
    """Return pairs of classes that are exchanged, while each loader by itself tells them apart."""
    cross = across(pair)
    alone = [_confused(it.near, it.labels, it.labels, pair.classes) for it in (pair.train, pair.valid)]
    seen = [label for label in range(pair.classes) if cross[label].sum() >= _FEWEST]
    risk = _RISK / max(len(seen) * (len(seen) - 1) / 2, 1)
    found = []
    for place, one in enumerate(seen):
        for other in seen[place + 1 :]:
            crossed, straight = cross[one, other] + cross[other, one], cross[one, one] + cross[other, other]
            both = _goes(cross, one, other) and _goes(cross, other, one)
            # Of a loader with few samples of them the other one tells, where what is crossed is all the clearer.
            many = [it for it in alone if min(it[one].sum(), it[other].sum()) >= _ENOUGH]
            if not both or not many or not all(_told_apart(it, one, other) for it in many):
                continue
            usual = max(_confusable(it, one, other) for it in many)
            if tail(int(crossed), int(crossed + straight), usual) < risk:
                found.append(Exchange(one, other, int(crossed), int(straight)))
    return found


def _goes(cross: Whole, one: int, other: int) -> bool:
    """Return whether a class of validation is mostly near another class: a few that are say nothing of all."""
    return bool(cross[one, other] > max(2 * cross[one, one], _MAINLY * cross[one].sum()))


def _told_apart(alone: Whole, one: int, other: int) -> bool:
    return all(
        alone[a, a] > _CONTROL * (alone[a, a] + alone[a, b]) and alone[a, a] >= 2
        for a, b in ((one, other), (other, one))
    )


def _confusable(alone: Whole, one: int, other: int) -> float:
    """Return how often a loader by itself takes two classes for each other, by Laplace's estimate."""
    mixed = max((alone[a, b] + 1) / (alone[a, a] + alone[a, b] + 2) for a, b in ((one, other), (other, one)))
    return float(min(max(mixed, _LEAST_CONFUSED), 0.5))


def shift(pair: Compared) -> tuple[int, int, int] | None:
    """Return by how much validation's classes are numbered otherwise, and the samples that fit so, and as they are."""
    cross = across(pair)
    straight = int(np.trace(cross))
    best: tuple[int, int, int] | None = None
    for places in (1, -1):
        rows = np.arange(pair.classes)
        moved = int(cross[rows, (rows + places) % pair.classes].sum())
        told = moved > 3 * straight and tail(moved, moved + straight) < _RISK
        if told and _most_classes_moved(cross, places) and (best is None or moved > best[1]):
            best = places, moved, straight
    return best


def _most_classes_moved(cross: Whole, places: int) -> bool:
    # Two classes that are exchanged are a shift of these two alone.
    rows = [label for label in range(len(cross)) if cross[label].sum()]
    moved = sum(bool(cross[row, (row + places) % len(cross)] > cross[row, row]) for row in rows)
    return len(rows) > 2 and moved >= 0.7 * len(rows)


def _confused(near: Whole, bank: Whole | None, labels: Whole | None, classes: int) -> Whole:
    if bank is None or labels is None:
        return np.zeros((classes, classes), dtype=np.int64)
    return confusion(labels, votes(near, bank, classes)[0], classes)
