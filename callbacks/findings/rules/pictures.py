"""Samples of a loader that can be compared as pictures, and what they have in common."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..probe.loader_probe import LoaderProbe, SampleProbe

# Inputs of fewer numbers, such as rows of a table, may be alike by chance.
FEWEST_VALUES = 48
# Areas along a side of a picture that is compared.
SIDE = 16


def is_picture(sample: SampleProbe) -> bool:
    """Return whether a sample has an image of finite values that are not all alike."""
    return has_image(sample) and not sample.is_blank


def has_image(sample: SampleProbe) -> bool:
    """Return whether a sample has an image of finite values."""
    values = prod(sample.shape) if sample.shape else 0
    return values >= FEWEST_VALUES and not sample.non_finite


@dataclass(frozen=True, eq=False)
class Held:
    """A part of a probe as the key of what was computed of it: equal where it is the same, not where it looks alike."""

    part: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and self.part is other.part

    def __hash__(self) -> int:
        return id(self.part)


def pictures(loader: LoaderProbe) -> list[SampleProbe]:
    """Return the samples of a loader that are pictures."""
    return [*_pictures(Held(loader))]


# Most rules ask for them, one after the other.
@lru_cache(maxsize=4)
def _pictures(held: Held) -> tuple[SampleProbe, ...]:
    return tuple(sample for sample in held.part.samples.values() if is_picture(sample))


def names_of(samples: Sequence[SampleProbe]) -> tuple[str, ...]:
    """Return the names of the first eight samples, for the place of a finding."""
    return tuple(sample.name for sample in samples[:8])


def vectors(samples: Sequence[SampleProbe], side: int = SIDE) -> NDArray[np.float32]:
    """Return each picture as grey areas, [n, side * side], of mean 0 and length 1."""
    found = [sample.small for sample in samples if sample.small is not None]
    # One call where it can be: a mean of each image by itself takes most of the time.
    alike = len({one.shape for one in found}) == 1
    small = np.stack(found).mean(1) if alike else np.stack([one.mean(0) for one in found])
    step = small.shape[-1] // side
    areas = small.reshape(len(small), side, step, side, step).mean((2, 4)).reshape(len(small), -1)
    areas = areas - areas.mean(1, keepdims=True)
    norms: NDArray[np.float32] = areas / np.maximum(np.linalg.norm(areas, axis=1, keepdims=True), 1e-12)
    return norms


def channel_means(samples: Sequence[SampleProbe]) -> NDArray[np.float64]:
    """Return the mean of each channel of each picture, [n, C]; of those with the usual number of channels."""
    return np.array([sample.mean for sample in _of_usual_channels(samples)], dtype=np.float64)


def channel_stds(samples: Sequence[SampleProbe]) -> NDArray[np.float64]:
    """Return the standard deviation of each channel within each picture, [n, C]; of those as ``channel_means``."""
    return np.array([sample.std for sample in _of_usual_channels(samples)], dtype=np.float64)


def _of_usual_channels(samples: Sequence[SampleProbe]) -> list[SampleProbe]:
    counts = Counter([len(sample.mean) for sample in samples])
    usual = counts.most_common(1)[0][0]
    return [*samples] if len(counts) == 1 else [sample for sample in samples if len(sample.mean) == usual]
