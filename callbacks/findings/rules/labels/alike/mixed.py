"""Finds classes of which a part is labelled as another class; two rules ask it, by pixels and by features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.wording import class_name, some
from .compared import Compared, Points
from .neighbours import Whole, confusion, nearest, votes
from .numbering import tail

_RISK = 1e-4  # chance of a false alarm over all pairs of classes
_FEWEST = 8  # samples with the wrong label
_FEWEST_SHOWN = 3  # samples of each of the two classes in the other loader
_SHARE = 0.15  # of the samples with that label; less is what a net bears
_PART = 0.25  # of the class; what augmentation makes look like another class is mostly less
_USUAL = 0.05  # how often the other loader takes two classes for each other at least, however clear they are
_ONE_WAY = 0.25  # of how often it goes the other way round: classes that are alike are confused in both directions
_KNOWN = 0.5  # share of the samples with either label that must look like one of the two classes
_MIXED = 0.6  # share of what mixing at random makes of the neighbours
_APART = 0.25  # by how much these may have more neighbours of their label than the class has: hard samples lie apart
_CLEAN = 0.15  # share of wrong neighbours where nothing is mixed up
_RARER = 0.4  # share of what is missing in the class: what is truly of the other class is missing nowhere


@dataclass(frozen=True)
class Mixed:
    """A class of which a part is labelled as another.

    Attributes:
        true: the class.
        given: what it is labelled.
        wrong: places of the samples that look wrong.
        labelled: samples with that label.
        back: samples of the class, and those of them that look like the other one.
        shares: of the class among both, in this loader and in the other one.
    """

    true: int
    given: int
    wrong: Whole
    labelled: int
    back: tuple[int, int]
    shares: tuple[float, float]

    @property
    def part(self) -> float:
        """Which share of the class is labelled so."""
        return len(self.wrong) / (len(self.wrong) + self.back[0])


def find_mixed(pairs: Sequence[Compared], names: Sequence[str]) -> Iterator[Finding]:
    """Yield classes of which a part is labelled as another, in the view that shows most of it."""
    # One for each label, as classes that lie near the right one in another view look mixed in as well.
    best: dict[tuple[str, int], tuple[Points, Points, Mixed]] = {}
    for pair in pairs:
        for ours, theirs in ((pair.train, pair.valid), (pair.valid, pair.train)):
            for one in _mixed(ours, theirs, pair.classes):
                key = (ours.loader, one.given)
                if key not in best or len(one.wrong) > len(best[key][2].wrong):
                    best[key] = ours, theirs, one
    for ours, theirs, one in best.values():
        yield _finding(ours, theirs, one, names)


def _finding(ours: Points, theirs: Points, one: Mixed, names: Sequence[str]) -> Finding:
    true, given = class_name(one.true, names), class_name(one.given, names)
    samples = tuple(ours.names[index] for index in one.wrong[:8])
    return Finding(
        "warning",
        f"about {one.part:.0%} of class {true} is labelled {given} in {ours.loader}: {len(one.wrong)} of the "
        f"{one.labelled} samples labelled {given} look like class {true} of {theirs.loader}, while {one.back[1]} of "
        f"{one.back[0]} do so the other way round, and of both classes {one.shares[0]:.0%} is class {true}, against "
        f"{one.shares[1]:.0%} in {theirs.loader}",
        f"look at {some(samples)}, and label them anew",
        Where(loader=ours.loader, samples=samples),
        {"class": one.true, "label": one.given, "wrong": len(one.wrong), "part": one.part},
    )


def _mixed(ours: Points, theirs: Points, classes: int) -> Iterator[Mixed]:
    if classes < 2 or ours.labels is None or theirs.labels is None or not (ours.recognized and theirs.recognized):
        return
    seen = votes(nearest(ours.vectors, theirs.vectors), theirs.labels, classes)[0]
    table = confusion(ours.labels, seen, classes)
    usual = confusion(theirs.labels, votes(theirs.near, theirs.labels, classes)[0], classes)
    risk = _RISK / (classes * (classes - 1))
    for given, true in np.argwhere(table >= _FEWEST).tolist():
        if given != true and _is_told(table, usual, given, true, risk):
            wrong = np.flatnonzero((ours.labels == given) & (seen == true))
            back = int(table[true].sum()), int(table[true, given])
            shares = _share_of(ours.labels, true, given), _share_of(theirs.labels, true, given)
            found = Mixed(true, given, wrong, int(table[given].sum()), back, shares)
            if found.part >= _PART and _is_rarer(found) and _at_random(ours, found) and _reaches(ours, theirs, found):
                yield found


def _is_told(table: Whole, usual: Whole, given: int, true: int, risk: float) -> bool:
    """Return whether many more samples than is usual look like the other class, in one direction alone."""
    crossed, straight = int(table[given, true]), int(table[given, given])
    back, own = int(table[true, given]), int(table[true, true])
    known = own >= _KNOWN * table[true].sum() and crossed + straight >= _KNOWN * table[given].sum()
    share = crossed / (crossed + straight)
    if not known or share < _SHARE or back > _ONE_WAY * share * (back + own):
        return False
    confused = max(usual[a, b] / max(usual[a, a] + usual[a, b], 1) for a, b in ((given, true), (true, given)))
    return tail(crossed, crossed + straight, max(confused, _USUAL)) < risk


def _is_rarer(found: Mixed) -> bool:
    missing = len(found.wrong) / (found.labelled + found.back[0])
    return found.shares[1] - found.shares[0] >= _RARER * missing


def _share_of(labels: Whole, true: int, given: int) -> float:
    counts = [int((labels == one).sum()) for one in (true, given)]
    return counts[0] / max(sum(counts), 1)


def _at_random(ours: Points, found: Mixed) -> bool:
    """Return whether what looks wrong is mixed with what is labelled right, as samples of one class are."""
    labels = _labels(ours)
    wrong = _share_near(ours.near[found.wrong], labels, found)
    right = _share_near(ours.near[labels == found.true], labels, found)
    return right >= _MIXED * found.part and wrong - right < _APART


def _reaches(ours: Points, theirs: Points, found: Mixed) -> bool:
    """Return whether the class in the other loader has wrong neighbours here, none there, and its label's has none."""
    labels, known = _labels(ours), _labels(theirs)
    marks = [known == label for label in (found.true, found.given)]
    if min(int(mark.sum()) for mark in marks) < _FEWEST_SHOWN:
        return False
    near = nearest(theirs.vectors, ours.vectors)
    of_true, of_given = (_share_near(near[mark], labels, found) for mark in marks)
    alone = _share_near(theirs.near[marks[0]], known, found)
    mixed = max(_MIXED * found.part, 2 * alone)
    return of_true >= mixed and 1 - of_given <= _CLEAN


def _labels(points: Points) -> Whole:
    return points.labels if points.labels is not None else np.zeros(0, dtype=np.int64)


def _share_near(near: Whole, labels: Whole, found: Mixed) -> float:
    """Return which share of the neighbours that are of the two classes is of the wrong one."""
    given, true = int((labels[near] == found.given).sum()), int((labels[near] == found.true).sum())
    return given / max(given + true, 1)
