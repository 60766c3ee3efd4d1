"""Images of validation that are flipped, turned, transposed or inverted against training.

Source: "wrong preprocessing" of N. Humbatova et al., 2020; rows and columns exchanged, EXIF ignored in one place.
Cost: means of small images that are read anyway.
Risk: objects without a direction, and augmentation that flips. The mean images of the classes, or of all samples, must
be stable within each loader, fit each other once turned, and clearly not as they are.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import pictures, vectors

Images = NDArray[np.float32]
_TURNS: dict[str, Callable[[Images], Images]] = {
    "as they are": lambda it: it,
    "mirrored left to right": lambda it: it[:, :, ::-1],
    "upside down": lambda it: it[:, ::-1],
    "turned by 180 degrees": lambda it: it[:, ::-1, ::-1],
    "transposed (rows and columns exchanged)": lambda it: it.transpose(0, 2, 1),
    "turned by 90 degrees": lambda it: np.rot90(it, 1, (1, 2)),
    "turned by 270 degrees": lambda it: np.rot90(it, 3, (1, 2)),
    "transposed and turned by 180 degrees": lambda it: np.rot90(it, 2, (1, 2)).transpose(0, 2, 1),
}
# Mean images have a mean of 0: to exchange dark and light is to change their sign.
_INVERTED = "inverted (dark and light exchanged)"
_TURNS[_INVERTED] = lambda it: -it
_DO = {_INVERTED: "read the images of both in the same way, and look for a step like 255 - x in one of them"}
_FEWEST, _OF_CLASS = 24, 6
# Correlation of the halves of a loader: mean images of pictures in which anything may be anywhere do not reach it.
_STABLE = 0.85
# Correlation of the loaders once turned, and how far below it they are as they are: digits upside down have 0.99 and
# 0.76; training that moves images fits worse. Healthy loaders are best as they are, or lose 0.02 where training flips.
_FITS = ((0.9, 0.15), (0.8, 0.3))


@rule("different-orientation", at="data", explained_by=["one-item"])
def different_orientation(probe: Probe) -> Iterator[Finding]:
    """Find a loader for validation whose mean images fit those of training only once they are turned, or inverted."""
    train, valid = probe.train, probe.valid
    if train is None or valid is None:
        return
    parts = [[sample for sample in pictures(loader) if sample.small is not None] for loader in (train, valid)]
    if min(map(len, parts)) < _FEWEST:
        return
    halves = [half for part in parts for half in _halves(part)]
    means = _means([*parts, *halves])
    if len(means[0]):
        yield from _compare(train, valid, means)


def _halves(samples: Sequence[SampleProbe]) -> list[list[SampleProbe]]:
    groups = _by_class(samples)
    return [[sample for group in groups.values() for sample in group[half::2]] for half in (0, 1)]


def _by_class(samples: Sequence[SampleProbe]) -> dict[int | None, list[SampleProbe]]:
    groups: dict[int | None, list[SampleProbe]] = defaultdict(list)
    for sample in samples:
        groups[sample.label].append(sample)
    return groups


def _means(parts: Sequence[Sequence[SampleProbe]]) -> list[Images]:
    """Return the mean images of the classes that all parts have, else of all samples."""
    groups = [_by_class(part) for part in parts]
    least = [_OF_CLASS, _OF_CLASS, *[_OF_CLASS // 2] * (len(parts) - 2)]
    common = [
        label for label in groups[0] if all(len(one[label]) >= few for one, few in zip(groups, least, strict=True))
    ]
    if len(common) < 2:
        return [_mean_image(part)[None] for part in parts]
    return [np.stack([_mean_image(one[label]) for label in common]) for one in groups]


def _mean_image(samples: Sequence[SampleProbe]) -> Images:
    mean: Images = vectors(samples).mean(0)
    return mean.reshape(16, 16)


def _correlation(one: Images, other: Images) -> float:
    # The mean over classes is kept: where all pictures are lit from above, it shows the orientation too.
    return float(np.corrcoef(one.reshape(-1), other.reshape(-1))[0, 1])


def _compare(train: LoaderProbe, valid: LoaderProbe, means: Sequence[Images]) -> Iterator[Finding]:
    whole, other, *halves = means
    if min(_correlation(halves[0], halves[1]), _correlation(halves[2], halves[3])) < _STABLE:
        return
    fits = {name: _correlation(whole, turn(other)) for name, turn in _TURNS.items()}
    best = max(fits, key=lambda name: fits[name])
    if not any(fits[best] >= fit and fits[best] - fits["as they are"] >= worse for fit, worse in _FITS):
        return
    yield Finding(
        "warning",
        f"images of {valid.key} are {best} against those of {train.key}: their mean images agree to {fits[best]:.2f}"
        f" so, and to {fits['as they are']:.2f} as they are",
        _DO.get(best, "read the images of both in the same way, and look at height and width, and at EXIF"),
        Where(f"{train.key}, {valid.key}", train.image_key),
        {"correlations": {name: round(value, 3) for name, value in fits.items()}},
    )
