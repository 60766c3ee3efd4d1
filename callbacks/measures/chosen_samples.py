"""Samples at places of a loader that are chosen by chance, before it starts."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..support.checkpoint_values import stored_as
from .best_worst_samples import Sample


def choose_places(samples: int, count: int, seed: Sequence[int]) -> list[int]:
    """Return so many different places of a loader, at random, in ascending order; all where there are no more.

    Args:
        samples: how many the loader has.
        count: how many are chosen.
        seed: the choice is a function of these numbers, at least 0.

    Example:
        >>> choose_places(1000, 3, seed=[7]) == choose_places(1000, 3, seed=[7])
        True
        >>> choose_places(2, 3, seed=[7])
        [0, 1]
    """
    chance = np.random.default_rng(list(seed))
    return sorted(chance.choice(samples, min(samples, count), replace=False).tolist()) if samples else []


@stored_as("ChosenSamples")
class ChosenSamples:
    """Keeps the samples of a loader at chosen places, or with chosen ids.

    Args:
        places: in the loader, from 0.
        ids: of the samples to keep, wherever they are; None: the places decide, as they do in a batch without ids.

    Example:
        >>> measure = ChosenSamples([1, 5])
        >>> measure.update(positions=[0, 1, 2], ids=["a", "b", "c"], take=lambda chosen: ["b"])
        >>> [(sample.position, sample.sample_id) for sample in measure.samples]
        [(1, 'b')]
    """

    def __init__(self, places: Sequence[int], ids: Sequence[Any] | None = None):
        self.places = list(places)
        self.ids = None if ids is None else list(ids)
        self.seen = 0
        self.samples: list[Sample] = []

    def update(self, positions: Sequence[int], ids: Sequence[Any], take: Callable[[list[int]], Sequence[Any]]) -> None:
        """Keep the chosen ones of a batch.

        Args:
            positions: [N], places in the loader.
            ids: [N], None for each if they are not known yet.
            take: called with the indices of the samples that are kept, if there are any; returns the parts of each.
        """
        self.seen += len(positions)
        by_place = self.ids is None or None in ids
        wanted = set(self.places if by_place else self.ids or ())
        chosen = [index for index, one in enumerate(positions if by_place else ids) if one in wanted]
        for index, parts in zip(chosen, take(chosen) if chosen else (), strict=True):
            self.samples.append(Sample(0.0, int(positions[index]), ids[index], parts))

    def rank(self, sample: Sample) -> int:
        """Return what orders samples, over ranks too: the smallest comes first."""
        by_place = self.ids is None or sample.sample_id is None
        return sample.position if by_place else (self.ids or []).index(sample.sample_id)
