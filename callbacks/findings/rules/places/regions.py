"""Regions of masks and boxes as short vectors, in which regions of one class may be near each other."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ..labels.alike.compared import Compared, Points

Floats = NDArray[np.float32]
Marks = NDArray[np.bool_]
Cut = Callable[[SampleProbe], Iterator[tuple[int, Marks]]]

_FEWEST_PIXELS = 12
_MOST = 500  # regions of a loader
_MOST_CLASSES = 100


@dataclass(frozen=True, eq=False)
class Region:
    """Where a sample shows a class.

    Attributes:
        label: the class.
        name: of the sample.
        colours: mean of each channel within, against the whole image and against what surrounds it, and its spread.
        shape: size, place and extent within the image, and how much of it is border.
    """

    label: int
    name: str
    colours: Floats
    shape: Floats


def compared_regions(probe: Probe, cut: Cut) -> tuple[Compared, ...]:
    """Return the first loader for training and the one for validation by their regions, in each view of these.

    Args:
        probe: what was observed.
        cut: yields the class and the pixels of each region of a sample that has an image.
    """
    train, valid = probe.train, probe.valid
    if train is None or valid is None:
        return ()
    ours, theirs = _regions(train, cut), _regions(valid, cut)
    both = [*ours, *theirs]
    if min(len(ours), len(theirs)) < 2 or len({len(it.colours) for it in both}) > 1:
        return ()
    labels = np.array([it.label for it in both], dtype=np.int64)
    classes = int(labels.max()) + 1
    if classes > _MOST_CLASSES or labels.min() < 0:
        return ()
    found = []
    for view in ("colours", "shape"):
        vectors = _scaled(np.stack([getattr(it, view) for it in both]))
        parts = [
            _points(loader.key, regions, vectors[part], labels[part], classes)
            for loader, regions, part in (
                (train, ours, slice(None, len(ours))),
                (valid, theirs, slice(len(ours), None)),
            )
        ]
        found.append(Compared(view, parts[0], parts[1], classes))
    return tuple(found)


def _points(key: str, regions: Sequence[Region], vectors: Floats, labels: NDArray[np.int64], classes: int) -> Points:
    targets = np.eye(classes, dtype=np.float32)[labels]
    return Points(key, vectors, targets, labels, tuple(it.name for it in regions))


def _regions(loader: LoaderProbe, cut: Cut) -> list[Region]:
    found: list[Region] = []
    for sample in loader.samples.values():
        if sample.image is not None and len(found) < _MOST:
            image = np.nan_to_num(sample.image.astype(np.float32))
            marks = [(label, inside) for label, inside in cut(sample) if inside.shape == image.shape[1:]]
            found += [
                _region(sample.name, image, label, inside) for label, inside in marks if inside.sum() >= _FEWEST_PIXELS
            ]
    return found[:_MOST]


def _region(name: str, image: Floats, label: int, inside: Marks) -> Region:
    within = image[:, inside]
    outside = image[:, ~inside] if not inside.all() else within
    spread = image.std((1, 2)) + 1e-6
    mean = within.mean(1)
    colours = np.concatenate([
        (mean - image.mean((1, 2))) / spread, (mean - outside.mean(1)) / spread, within.std(1) / spread,
    ])  # fmt: skip
    rows, columns = np.nonzero(inside)
    height, width = inside.shape
    border = float((inside[1:] != inside[:-1]).sum() + (inside[:, 1:] != inside[:, :-1]).sum())
    shape = np.array([
        np.log(inside.mean()), rows.mean() / height, columns.mean() / width, np.ptp(rows) / height,
        np.ptp(columns) / width, np.log1p(border / np.sqrt(inside.sum())),
    ])  # fmt: skip
    return Region(label, name, colours.astype(np.float32), shape.astype(np.float32))


def _scaled(vectors: Floats) -> Floats:
    scaled: Floats = ((vectors - vectors.mean(0)) / (vectors.std(0) + 1e-6)).astype(np.float32)
    return scaled
