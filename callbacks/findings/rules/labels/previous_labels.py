"""Labels of the sample before or after: a list that begins one line too early or too late.

Source: off-by-one errors when two lists are joined, as in N. Humbatova et al., "Taxonomy of Real Faults in
Deep Learning Systems", 2020 (wrong labels of training data).
Cost: shared with ``unrelated-labels``.
Risk: next to none: labels must agree with neighbours far beyond chance when moved, and not at all as they are.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from .alike.compared import Points, by_pixels, points_of
from .alike.neighbours import relation

_MOVES = (-1, 1, -2, 2)
_CLEAR, _STRONG = 8.0, 0.15  # as for unrelated labels
_AT_CHANCE = 3.5  # spreads; several views and moves are tried
_ENOUGH = 40  # samples whose neighbour in the list is known


@rule("previous-labels", at="data", explained_by=["one-item"])
def previous_labels(probe: Probe) -> Iterator[Finding]:
    """Find loaders in which labels fit the images when moved by one or two places, and not where they stand."""
    pairs = by_pixels(probe)
    for loader in probe.loaders.values():
        points = {pair.view: part for pair in pairs for part in (pair.train, pair.valid) if part.loader == loader.key}
        moves = [move for one in (points or points_of(loader)).values() if (move := _moved(one, loader))]
        views = points or points_of(loader)
        if moves and all(it.within is not None and it.within.clear < _AT_CHANCE for it in views.values()):
            yield _finding(loader, *max(moves, key=lambda it: it[1]))


def _moved(points: Points, loader: LoaderProbe) -> tuple[int, float, float] | None:
    if points.labels is None or points.indices is None or points.within is None:
        return None
    known = _known(loader)
    best: tuple[int, float, float] | None = None
    for move in _MOVES:
        has = np.array([index + move in known for index in points.indices.tolist()])
        if has.sum() < _ENOUGH:
            continue
        score, clear = _score(points, known, has, move)
        if clear > _CLEAR and score > _STRONG and (best is None or score > best[1]):
            best = move, score, points.within.score
    return best


def _known(loader: LoaderProbe) -> Mapping[int, int]:
    # Of those read, as the labels that a data set holds may be those of before the fault.
    if loader.complete or loader.labels is None:
        return {index: it.label for index, it in loader.samples.items() if it.label is not None and it.label >= 0}
    return dict(enumerate(loader.labels.tolist()))


def _score(points: Points, known: Mapping[int, int], has: np.ndarray, move: int) -> tuple[float, float]:
    indices = [] if points.indices is None else points.indices.tolist()
    moved = np.array([known.get(index + move, -1) for index in indices])
    # One column more, for those whose label is not known; their row is zero.
    rows = np.zeros((len(moved), max(int(moved.max()) + 1, 1)), dtype=np.float32)
    rows[has, moved[has]] = 1
    found = relation(points.near[has], rows, rows[has])
    return (found.score, found.clear) if found else (0.0, 0.0)


def _finding(loader: LoaderProbe, move: int, score: float, kept: float) -> Finding:
    places = "1 place" if abs(move) == 1 else f"{abs(move)} places"
    # An image whose right label stands later in the list has got that of a sample before it.
    side, whose = ("later", "before") if move > 0 else ("earlier", "after")
    which = f"the sample {whose} it" if abs(move) == 1 else f"the sample {abs(move)} {whose} it"
    return Finding(
        "error",
        f"each image of {loader.key} has the label of {which}: labels that stand {places} {side} agree with those of "
        f"similar images ({score:.2f} of 1), its own do not ({kept:.2f})",
        f"pair images and labels of {loader.key} by name, or by the same index",
        Where(loader=loader.key),
        {"places": move, "relation_moved": score, "relation": kept},
    )
