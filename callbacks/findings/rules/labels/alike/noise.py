"""Estimates the share of wrong labels; two rules ask it, by pixels and by features."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.wording import some
from .compared import Compared, Points
from .neighbours import Whole, confusion, nearest, votes

# Enough for a majority to stand above 40% of wrong labels, few enough for 20 samples of a class.
_VOTES = 11
_FEWEST = 60  # samples of a loader
_KNOWN = 0.85  # share that votes must get right where labels are sound: in harder data they say little of a label
_STEADY = 0.93  # share on which votes of two halves agree: natural confusion makes them differ as often as labels do
NOTE, _WARNING = 0.04, 0.1  # a net bears 4% of wrong labels; 10% cost it some points
_SPREADS = 3.5  # by which the share must be above 1%
_FEWEST_WRONG = 8


@dataclass(frozen=True)
class Noise:
    """Share of wrong labels of a loader, how sure it is (a standard deviation), and some that look wrong."""

    loader: str
    share: float
    spread: float
    names: tuple[str, ...]
    why: str

    def told(self, least: float) -> bool:
        """Return whether it is more than chance, and at least a share."""
        return self.share >= least and self.share - _SPREADS * self.spread > 0.01


def find_noise(pairs: Sequence[Compared], least: float = NOTE) -> Iterator[Finding]:
    """Yield loaders of which a clear share of labels is wrong, ``least`` or more, in the view that tells most."""
    found: dict[str, list[Noise]] = {}
    for train in dict.fromkeys(pair.train.loader for pair in pairs):
        pair = max((it for it in pairs if it.train.loader == train), key=_told)
        if not pair.classes or min(len(pair.train.names), len(pair.valid.names)) < _FEWEST:
            continue
        against = _against_valid(pair)
        for noise in (against, _within(pair.train, pair.classes), _within(pair.valid, pair.classes)):
            if noise is not None and noise.told(least):
                found.setdefault(noise.loader, []).append(noise)
    for noises in found.values():
        yield _finding(min(noises, key=lambda it: it.spread))


def _told(pair: Compared) -> float:
    return pair.across.score if pair.across else 0.0


def _finding(noise: Noise) -> Finding:
    low, high = max(noise.share - 2 * noise.spread, 0), min(noise.share + 2 * noise.spread, 1)
    return Finding(
        "warning" if noise.share >= _WARNING else "note",
        f"about {noise.share:.0%} of the labels of {noise.loader} are wrong ({low:.0%} to {high:.0%}), as it seems: "
        f"{noise.why}, such as {some(noise.names)}",
        "look at these samples, and mend or leave out what is labelled wrong",
        Where(loader=noise.loader, samples=noise.names),
        {"share": noise.share, "low": low, "high": high},
    )


def _against_valid(pair: Compared) -> Noise | None:
    """Return by how much rarer votes give training its own labels than they give validation its own."""
    train, valid = pair.train, pair.valid
    if train.labels is None or valid.labels is None or not train.recognized:
        return None
    ours, ours_sure = votes(nearest(train.vectors, train.vectors, _VOTES, own=True), train.labels, pair.classes)
    theirs, theirs_sure = votes(nearest(valid.vectors, train.vectors, _VOTES), train.labels, pair.classes)
    # Where votes are the surest: there augmentation and what is hard by itself count least.
    cut = np.median(theirs_sure)
    ours_kept, theirs_kept = ours_sure >= cut, theirs_sure >= cut
    here = confusion(train.labels[ours_kept], ours[ours_kept], pair.classes)
    there = confusion(valid.labels[theirs_kept], theirs[theirs_kept], pair.classes)
    wrong = ours_kept & (ours != train.labels)
    ratio = _ratio(here, there)
    if ratio is None or wrong.sum() < _FEWEST_WRONG:
        return None
    why = (
        f"their neighbours in {train.loader} agree on another class, while they agree with {ratio[2]:.0%} of the "
        f"labels of {valid.loader}"
    )
    return Noise(train.loader, ratio[0], ratio[1], _surest(train, wrong, ours_sure), why)


def _ratio(here: Whole, there: Whole) -> tuple[float, float, float] | None:
    """Return the share of wrong labels, its spread and the share that is right in validation."""
    ours, theirs = here.sum(1), there.sum(1)
    both = (ours >= 4) & (theirs >= 4)
    # By class, as the loaders may have other shares of each.
    if both.sum() < 2 or ours[both].sum() < max(0.5 * ours.sum(), _FEWEST / 2):
        return None
    weights = ours[both] / ours[both].sum()
    right_here, right_there = (np.diag(it)[both] / it.sum(1)[both] for it in (here, there))
    if float((weights * right_there).sum()) < _KNOWN or right_there.min() < 0.5:
        return None
    kept, known = float((weights * right_here).sum()), float((weights * right_there).sum())
    variances = [(weights**2 * _variance(*it)).sum() for it in ((right_here, ours[both]), (right_there, theirs[both]))]
    spread = float(np.sqrt(sum(variances)))
    return 1 - kept / known, spread / known, known


def _variance(right: np.ndarray, count: np.ndarray) -> np.ndarray:
    # Laplace's estimate: no class is known without error.
    smoothed = (right * count + 1) / (count + 2)
    variance: np.ndarray = smoothed * (1 - smoothed) / count
    return variance


def _within(points: Points, classes: int) -> Noise | None:
    """Return the share of labels that differ from votes on which two halves of the samples agree.

    Wrong labels are spread over all classes, as is asked; two classes alone leave no way to tell them from hard ones.
    """
    if points.labels is None or len(set(points.labels.tolist())) < 3 or not points.recognized:
        return None
    first, second = _halves(points, classes)
    same = first == second
    if same.mean() < _STEADY:
        return None
    table = confusion(points.labels[same], first[same], classes)
    wrong = same & (first != points.labels)
    if wrong.sum() < _FEWEST_WRONG or not _all_known(table) or not _spread_out(table):
        return None
    share = float(wrong.sum() / same.sum())
    why = f"two votes of their neighbours that agree on {same.mean():.0%} of all samples say another class"
    spread = float(np.sqrt(share * (1 - share) / same.sum()))
    return Noise(points.loader, share, spread, points_named(points, wrong), why)


def points_named(points: Points, chosen: np.ndarray) -> tuple[str, ...]:
    """Return the names of up to eight of the chosen samples."""
    return tuple(points.names[index] for index in np.flatnonzero(chosen)[:8])


def _surest(points: Points, chosen: np.ndarray, sure: np.ndarray) -> tuple[str, ...]:
    order = sorted(np.flatnonzero(chosen).tolist(), key=lambda index: -sure[index])
    return tuple(points.names[index] for index in order[:8])


def _halves(points: Points, classes: int) -> tuple[Whole, Whole]:
    order = np.random.default_rng(0).permutation(len(points.names))
    voted = np.zeros((2, len(order)), dtype=np.int64)
    for half, bank in enumerate((order[::2], order[1::2])):
        labels = points.labels[bank] if points.labels is not None else bank
        other = np.setdiff1d(order, bank)
        voted[half, other] = votes(nearest(points.vectors[other], points.vectors[bank], _VOTES), labels, classes)[0]
        near = nearest(points.vectors[bank], points.vectors[bank], _VOTES, own=True)
        voted[half, bank] = votes(near, labels, classes)[0]
    return voted[0], voted[1]


def _all_known(table: Whole) -> bool:
    counts = table.sum(1)
    common = counts >= 0.5 * counts.sum() / max((counts > 0).sum(), 1)
    return bool((np.diag(table)[common] >= 0.5 * counts[common]).all()) and common.sum() >= 3


def _spread_out(table: Whole) -> bool:
    """Return whether wrong labels (rows) are as frequent in each voted class as the label is at all."""
    wrong = table - np.diag(np.diag(table))
    kept = table.sum(1) > 0
    wrong, shares = wrong[np.ix_(kept, kept)].astype(float), table.sum(1)[kept] / table.sum()
    expected = shares[:, None] * (1 - np.eye(len(shares)))
    expected = expected / expected.sum(0) * wrong.sum(0)
    cells = expected > 0
    freedom = max(int(cells.sum()) - len(shares), 1)
    statistic = ((wrong - expected)[cells] ** 2 / expected[cells]).sum()
    return bool(statistic < freedom * (1 + 3 * np.sqrt(2 / freedom)))
