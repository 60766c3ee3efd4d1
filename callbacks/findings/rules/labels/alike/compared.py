"""Training and validation as points with targets, by pixels before training and by the model's features after it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np

from ....probe.epoch_probe import FeatureProbe
from ....probe.loader_probe import LoaderProbe, SampleProbe
from ....probe.probe import Probe
from ...pictures import Held
from .neighbours import Floats, Relation, Whole, nearest, relation
from .recognized import is_recognized
from .views import views

MOST = 1000  # samples of a loader: 1,000 against 1,000 in three views take a tenth of a second
FEWEST = 40  # of fewer, no relation is far enough from chance
_MOST_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Points:
    """Samples of a loader in one view.

    Attributes:
        loader: its key.
        vectors: [n, D].
        targets: [n, L], classes as rows of 0 and 1.
        labels: [n]; None where targets are no classes.
        names: of the samples.
        indices: of the samples in the data set; None where they are not known.
        recognized: whether augmentation leaves enough of them.
    """

    loader: str
    vectors: Floats
    targets: Floats
    labels: Whole | None
    names: tuple[str, ...]
    indices: Whole | None = None
    recognized: bool = True

    @cached_property
    def near(self) -> Whole:
        """Neighbours of each sample among the others."""
        return nearest(self.vectors, self.vectors, own=True)

    @cached_property
    def within(self) -> Relation | None:
        """How far its targets agree with those of neighbours in the same loader."""
        return relation(self.near, self.targets, self.targets)


@dataclass(frozen=True, eq=False)
class Compared:
    """A loader for training and one for validation in one view; ``classes`` is 0 where targets are no classes."""

    view: str
    train: Points
    valid: Points
    classes: int

    @cached_property
    def near(self) -> Whole:
        """Neighbours of each sample of validation in training."""
        return nearest(self.valid.vectors, self.train.vectors)

    @cached_property
    def across(self) -> Relation | None:
        """How far targets of validation agree with those of neighbours in training."""
        return relation(self.near, self.train.targets, self.valid.targets)


def by_pixels(probe: Probe) -> tuple[Compared, ...]:
    """Return each pair of a loader for training and the one for validation, in each view of their pixels."""
    return _by_pixels(Held(probe))


def by_features(probe: Probe) -> tuple[Compared, ...]:
    """Return training and validation by the model's features; one pair or none."""
    return _by_features(Held(probe))


def points_of(loader: LoaderProbe) -> dict[str, Points]:
    """Return the samples of one loader in each view; empty where they are too few or have no targets."""
    samples = _usable(loader)
    if len(samples) < FEWEST:
        return {}
    labels, targets = _targets(samples, [])
    return _points(loader.key, samples, labels, targets)


# Several rules look at the same neighbours, one after the other.
@lru_cache(maxsize=1)
def _by_pixels(held: Held) -> tuple[Compared, ...]:
    valid = held.part.valid
    trains = [loader for loader in held.part.loaders.values() if loader.trains]
    return tuple(pair for train in trains if valid is not None for pair in _pairs(train, valid))


@lru_cache(maxsize=1)
def _by_features(held: Held) -> tuple[Compared, ...]:
    features = held.part.features
    trains = [key for key, loader in held.part.loaders.items() if loader.trains] or ["train"]
    valid = held.part.valid.key if held.part.valid else "valid"
    found = [features[key] for key in (trains[0], valid) if key in features]
    if len(found) < 2 or any(len(one.labels) < FEWEST for one in found):
        return ()
    if found[0].features.shape[1] != found[1].features.shape[1]:
        return ()
    classes = int(max(one.labels.max() for one in found)) + 1
    if classes > _MOST_CLASSES or min(one.labels.min() for one in found) < 0:
        return ()
    centre = found[0].features.mean(0)
    train, valid_points = (
        _featured(key, one, classes, centre) for key, one in zip((trains[0], valid), found, strict=True)
    )
    return (Compared("features", train, valid_points, classes),)


def _featured(key: str, probe: FeatureProbe, classes: int, centre: Floats) -> Points:
    kept = _spread(len(probe.labels))
    vectors = np.nan_to_num(probe.features[kept] - centre)
    # Directions: the length of a feature tells how sure the model is more than what it sees.
    vectors = vectors / (np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-6)
    labels = probe.labels[kept]
    names = tuple(probe.names[index] for index in kept)
    return Points(key, vectors.astype(np.float32), _rows(labels, classes), labels, names)


def _pairs(train: LoaderProbe, valid: LoaderProbe) -> Iterator[Compared]:
    ours, theirs = _usable(train), _usable(valid)
    if min(len(ours), len(theirs)) < FEWEST or _form(ours[0]) != _form(theirs[0]):
        return
    both, targets = _targets(ours, theirs)
    labels = None if both is None else both[: len(ours)]
    known = None if both is None else both[len(ours) :]
    clear = is_recognized(train, ours)
    # One call for both, so that colours are scaled alike.
    joint = _points(train.key, [*ours, *theirs], both, targets)
    for view, points in joint.items():
        first, second = _cut(points, slice(0, len(ours)), labels), _cut(points, slice(len(ours), None), known)
        first, second = replace(first, recognized=clear), replace(second, loader=valid.key)
        yield Compared(view, first, second, 0 if both is None else targets.shape[1])


def _cut(points: Points, part: slice, labels: Whole | None) -> Points:
    indices = None if points.indices is None else points.indices[part]
    return Points(points.loader, points.vectors[part], points.targets[part], labels, points.names[part], indices)


def _points(key: str, samples: Sequence[SampleProbe], labels: Whole | None, targets: Floats) -> dict[str, Points]:
    images = [sample.small for sample in samples if sample.small is not None]
    names = tuple(sample.name for sample in samples)
    indices = np.array([sample.index for sample in samples], dtype=np.int64)
    return {view: Points(key, vectors, targets, labels, names, indices) for view, vectors in views(images).items()}


def _form(sample: SampleProbe) -> tuple[tuple[int, ...], tuple[int, ...]]:
    small, target = sample.small, sample.target
    return (() if small is None else small.shape), (() if target is None else (target.size,))


def _usable(loader: LoaderProbe) -> list[SampleProbe]:
    samples = [it for it in loader.samples.values() if it.small is not None and it.target is not None]
    samples = [it for it in samples if _form(it) == _form(samples[0]) and (it.label is None or it.label >= 0)]
    return [samples[index] for index in _spread(len(samples))]


def _spread(count: int) -> list[int]:
    return [int(place) for place in np.linspace(0, count - 1, min(count, MOST)).round()]


def _targets(ours: Sequence[SampleProbe], theirs: Sequence[SampleProbe]) -> tuple[Whole | None, Floats]:
    labels = [sample.label for sample in [*ours, *theirs]]
    known = [label for label in labels if label is not None]
    if len(known) == len(labels) and max(known) < _MOST_CLASSES:
        classes = max(known) + 1
        return np.array(known, dtype=np.int64), _rows(np.array(known), classes)
    numbers = [np.asarray(it.target, dtype=np.float32).reshape(-1) for it in [*ours, *theirs]]
    return None, np.nan_to_num(np.stack(numbers))


def _rows(labels: Whole, classes: int) -> Floats:
    return np.eye(classes, dtype=np.float32)[labels]
