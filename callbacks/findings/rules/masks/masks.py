"""What the masks of a loader hold, counted."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe

FEWEST = 8  # masks, of which shares are worth comparing
VOID = 255
_MOST = 100  # distinct values of masks of classes; more are a map of numbers


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of a loader's samples.

    Attributes:
        loader: of which they are.
        samples: those with a mask of classes or labels.
    """

    loader: LoaderProbe
    samples: tuple[SampleProbe, ...]

    @property
    def key(self) -> str:
        """Key of the loader."""
        return self.loader.key

    @cached_property
    def shares(self) -> dict[float, float]:
        """Mean share of pixels of each value."""
        found: dict[float, float] = {}
        for sample in self.samples:
            for value, share in zip(sample.mask_values, sample.mask_shares, strict=False):
                found[value] = found.get(value, 0.0) + share / len(self.samples)
        return dict(sorted(found.items()))

    @cached_property
    def foreground(self) -> NDArray[np.float64]:
        """Share of pixels of each mask that are neither 0 nor void."""
        return np.array([_foreground(sample, set(self.shares)) for sample in self.samples])

    @cached_property
    def empty(self) -> NDArray[np.bool_]:
        """Whether each mask is background alone."""
        empty: NDArray[np.bool_] = self.foreground == 0
        return empty


def _foreground(sample: SampleProbe, values: set[float]) -> float:
    void = voids(values)
    pairs = zip(sample.mask_values, sample.mask_shares, strict=False)
    return float(sum(share for value, share in pairs if value != 0 and value not in void))


def voids(values: set[float]) -> set[float]:
    """Return the values that mean no class: negative ones, and 255 beside classes that count from 1."""
    beside = {value for value in values if 0 < value < VOID}
    few = len(beside) <= _MOST and all(value == int(value) for value in values) and max(beside, default=VOID) < VOID / 2
    return {value for value in values if (value < 0 and value == int(value)) or (value == VOID and few)}


def masks_of(probe: Probe) -> list[Masks]:
    """Return the masks of each loader that has some."""
    found = [
        Masks(loader, tuple(it for it in loader.samples.values() if it.mask_values))
        for loader in probe.loaders.values()
    ]
    return [masks for masks in found if masks.samples]


def other_of(masks: Masks, all_masks: list[Masks]) -> Masks | None:
    """Return the masks of a loader of the other kind."""
    return next((other for other in all_masks if other.loader.trains != masks.loader.trains), None)


def listed(values: list[float]) -> str:
    """Return the first values, such as ``3, 7 and 250``."""
    words = [f"{value:g}" for value in values[:5]]
    if len(values) > 5:
        return f"{', '.join(words)} and {len(values) - 5} more"
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
