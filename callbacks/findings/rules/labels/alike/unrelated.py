"""Finds labels that tell nothing of their samples; two rules ask it, by pixels and by features."""

from collections.abc import Iterator, Sequence

from ....probe.finding import Finding, Where
from .compared import Compared, Points
from .neighbours import Relation

# A loader where labels and neighbours agree serves as the measure: clearly, and to a degree that others would reach.
_CLEAR, _STRONG = 8.0, 0.15
# Where labels are sound, training has at most twice the errors of validation; a quarter of its relation is far below.
_LEFT = 0.25
_AT_CHANCE = 3.0  # spreads: what chance alone leaves, in 99.9% of cases
_SOME = 0.1  # a relation in any view, were it weak, is one


def find_unrelated(pairs: Sequence[Compared], seen: str) -> Iterator[Finding]:
    """Yield loaders whose targets are unrelated to their samples, while those of the other loader are related.

    Args:
        pairs: one loader for training and one for validation, in each view.
        seen: what neighbours are near in, for the sentence.
    """
    for train in dict.fromkeys(pair.train.loader for pair in pairs):
        views = [pair for pair in pairs if pair.train.loader == train]
        if any(_related(pair.across) for pair in views):
            continue
        ours, theirs = [pair.train for pair in views], [pair.valid for pair in views]
        if ours[0].recognized and (found := _told(ours, theirs)):
            yield _finding(ours[0], *found, seen)
        elif found := _told(theirs, ours):
            yield _finding(theirs[0], *found, seen)


def _related(found: Relation | None) -> bool:
    return found is not None and found.clear > _AT_CHANCE and found.score > _SOME


def _told(unrelated: Sequence[Points], measure: Sequence[Points]) -> tuple[Relation, Relation] | None:
    best: tuple[Relation, Relation] | None = None
    for one, other in zip(unrelated, measure, strict=True):
        here, there = one.within, other.within
        if here is None or there is None or _related(here):
            return None
        told = there.clear > _CLEAR and there.score > _STRONG
        # What is left at most, so that few samples say nothing.
        bounded = here.score + _AT_CHANCE * here.spread < _LEFT * there.score
        if told and bounded and (best is None or there.score > best[1].score):
            best = here, there
    return best


def _finding(points: Points, here: Relation, there: Relation, seen: str) -> Finding:
    other = "valid" if points.loader.startswith("train") else "train"
    thing = "labels" if points.labels is not None else "targets"
    return Finding(
        # Validation is often smaller and made elsewhere, so that it is not the run that must be worthless.
        "error" if points.loader.startswith("train") else "warning",
        f"{thing} of {points.loader} have no relation to its images: {seen} agree in them no more than by chance "
        f"({here.score:.2f} of 1 over {here.count:,} samples, against {there.score:.2f} in {other})",
        f"check how {points.loader} pairs images with {thing}, as in a list that is sorted or shuffled alone",
        Where(loader=points.loader, samples=points.names[:3]),
        {"relation": here.score, "expected": there.score, "samples": here.count},
    )
