"""Images of validation that differ from one of training by almost nothing.

Source: B. Barz and J. Denzler, "Do We Train on Test Data? Purging CIFAR of Near-Duplicates", 2020.
Cost: products of matrices of at most 2,000 x 256 numbers, and of the few that are near in colour.
Risk: digits, scans and faces look alike without being copies. A copy is therefore not only near, but several times
nearer than the next image; few are told as a note, and one or two not at all. Drawings of a few shapes at a few places
come again by chance: mostly in other colours, and in training alone as often as between training and validation.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Severity, Where
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.settings_probe import SettingsProbe
from ...probe.wording import share
from ..class_counts import has_classes
from ..pictures import SIDE, names_of, pictures, vectors
from ..sample_labels import labelled_groups

_MOST = 2000
# Distance between images of length 1: what a second JPEG, a new size or a slight shift makes of one image stays below.
_NEAR = 0.1
# The same with colours, where noise is not evened out over the channels; what was drawn anew has 0.17 and more.
_NEAR_IN_COLOUR = 0.15
# Copies are so many times nearer than the image that comes next.
_TIMES = 3.0
_HARMFUL = 0.1
# What comes again by chance has one twin alone for a share of 1 / e at most, and does so in training as well.
_BEYOND_CHANCE, _TIMES_WITHIN = 0.45, 2.0
# A pair alone is no matter.
_FEWEST, _FEWEST_PAIRS = 20, 3


@rule("near-duplicates", at="data", explained_by=["one-item", "shared-images"])
def near_duplicates(probe: Probe) -> Iterator[Finding]:
    """Find images of validation that are near copies of images of training, by their small grey areas."""
    train, valid = probe.train, probe.valid
    if train is not None and valid is not None:
        yield from _of_loaders(train, valid, probe.settings)


def _of_loaders(train: LoaderProbe, valid: LoaderProbe, settings: SettingsProbe) -> Iterator[Finding]:
    digests = {sample.digest for sample in train.samples.values()} | set(train.again.values())
    ones = [sample for sample in pictures(train) if sample.small is not None][:_MOST]
    seen = [sample for sample in pictures(valid) if sample.small is not None][:_MOST]
    others = [sample for sample in seen if sample.digest not in digests]
    if len(ones) < _FEWEST or len(others) < _FEWEST:
        return
    rows, nearest = _twins(others, ones)
    if len(rows) < _FEWEST_PAIRS:
        return
    part = len(rows) / len(seen)
    by_chance = part < _BEYOND_CHANCE and part < _TIMES_WITHIN * _share_within(ones)
    if by_chance and part < _HARMFUL:
        return
    severity: Severity = "note" if by_chance or part < _HARMFUL else "warning"
    pairs = [[(valid.key, others[row]), (train.key, ones[at])] for row, at in zip(rows, nearest, strict=True)]
    shown = ", ".join(f"{others[row].name} is near {ones[at].name}" for row, at in zip(rows[:2], nearest, strict=False))
    yield Finding(
        severity,
        f"{len(rows):,} of {len(seen):,} images of {valid.key} ({share(len(rows), len(seen))}) are almost copies of"
        f" images of {train.key} ({shown})",
        "look at these pairs, and split the data so that copies of an image are on one side",
        Where(f"{train.key}, {valid.key}", samples=names_of([others[row] for row in rows[:8]])),
        {"near": len(rows), "compared": len(seen)},
        groups=labelled_groups(pairs if has_classes(settings) and not by_chance else (), settings),
    )


def _twins(samples: list[SampleProbe], ones: list[SampleProbe]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which samples are near one of the others alone, and which one that is."""
    likeness = vectors(samples) @ vectors(ones).T
    # Twice the largest one takes a tenth of the time that sorting does.
    every = np.arange(len(samples))
    nearest = likeness.argmax(1)
    first = _distances(likeness[every, nearest])
    likeness[every, nearest] = -1
    rows = np.flatnonzero((first < _NEAR) & (_TIMES * first < _distances(likeness.max(1))))
    nearest = nearest[rows]
    same = np.array([_near_in_colour(samples[row], ones[at]) for row, at in zip(rows, nearest, strict=True)], bool)
    return rows[same], nearest[same]


def _share_within(samples: list[SampleProbe]) -> float:
    """Return the share of samples that are near one of the others of their loader."""
    vector = vectors(samples)
    likeness = vector @ vector.T
    np.fill_diagonal(likeness, -1)
    return float((_distances(likeness.max(1)) < _NEAR).mean())


def _near_in_colour(one: SampleProbe, other: SampleProbe) -> bool:
    both = [_coloured(it.small) for it in (one, other) if it.small is not None]
    alike = len(both) == 2 and both[0].shape == both[1].shape
    return alike and bool(_distances(np.array(both[0] @ both[1])) < _NEAR_IN_COLOUR)


def _coloured(small: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the areas of all channels, as many as ``vectors`` has of one, of mean 0 each and of length 1 together."""
    areas = small.reshape(len(small), SIDE, small.shape[1] // SIDE, SIDE, -1).mean((2, 4)).reshape(len(small), -1)
    areas = (areas - areas.mean(1, keepdims=True)).reshape(-1)
    unit: NDArray[np.float32] = areas / max(float(np.linalg.norm(areas)), 1e-12)
    return unit


def _distances(likeness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the distances of vectors of length 1, of their products."""
    return np.sqrt(np.maximum(2 - 2 * likeness, 1e-12))
