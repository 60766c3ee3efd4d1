"""The k best and the k worst samples of an epoch by a score."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..support.checkpoint_values import stored_as


@stored_as("Sample")
@dataclass(frozen=True)
class Sample:
    """A sample that may be shown.

    Attributes:
        score: as a host number.
        position: its place in the loader, from 0.
        sample_id: its id.
        parts: what was kept of it: image, target, output and the like.
    """

    score: float
    position: int
    sample_id: Any
    parts: Any


@stored_as("BestWorstSamples")
class BestWorstSamples:
    """Keeps the k best and the k worst samples seen so far, and no other.

    A score that is NaN or infinite is worse than any other and never among the best. Of equals, those that come first
    in the loader are kept. A sample that is seen several times, for example when the sampler draws it again, counts
    once, with its most extreme score.

    Args:
        k_samples: k, at least 1.
        minimize: whether a smaller score is better.

    Attributes:
        seen: number of samples so far, repeated ones included.

    Example:
        >>> measure = BestWorstSamples(k_samples=1)
        >>> images = ["image of a", "image of b", "image of c"]
        >>> measure.update([0.3, 0.1, 0.9], positions=[0, 1, 2], ids=["a", "b", "c"], take=images.__getitem__)
        >>> measure.best[0].sample_id, measure.worst[0].parts
        ('b', 'image of c')
    """

    def __init__(self, k_samples: int = 12, *, minimize: bool = True):
        self.sign = 1.0 if minimize else -1.0
        self.seen = 0
        self._best = _Smallest(k_samples)
        self._worst = _Smallest(k_samples)

    @property
    def best(self) -> list[Sample]:
        """The best samples, the best one first."""
        return self._best.sorted()

    @property
    def worst(self) -> list[Sample]:
        """The worst samples, the worst one first."""
        return self._worst.sorted()

    def update(
        self,
        scores: Sequence[float],
        positions: Sequence[int],
        ids: Sequence[Any],
        take: Callable[[int], Any],
        add_to_worst: Callable[[int, Any], Any] = lambda _, parts: parts,
    ) -> None:
        """Compare the samples of one batch with those kept.

        Args:
            scores: [N].
            positions: [N], places in the loader.
            ids: [N], hashable.
            take: called with the index of a sample that is kept; returns its parts.
            add_to_worst: called with the index of a sample that is among the worst, and its parts; returns the parts
                that are kept there.
        """
        self.seen += len(scores)
        badness = self.sign * np.asarray(scores, dtype=np.float64)
        finite = np.isfinite(badness)
        taken: dict[int, Any] = {}  # a sample of a small loader can be among both: it is taken once
        # Both ends as the smallest of a key: NaN and infinity are last among the best and first among the worst.
        for kept, key, lead, finish in (
            (self._best, self.best_key, np.where(finite, badness, np.inf), lambda _, parts: parts),
            (self._worst, self.worst_key, np.where(finite, -badness, -np.inf), add_to_worst),
        ):
            # Most samples are neither: one comparison of the whole batch leaves them out.
            for index in np.flatnonzero((lead <= kept.limit) & (finite | (kept is self._worst))).tolist():
                sample = Sample(float(scores[index]), int(positions[index]), ids[index], None)
                if kept.wants(key(sample), sample.sample_id):
                    kept.make_room(sample.sample_id)
                    if index not in taken:
                        taken[index] = take(index)
                    kept.add(key(sample), replace(sample, parts=finish(index, taken[index])))

    def best_key(self, sample: Sample) -> tuple[float, int]:
        """Return what orders samples from the best, over ranks too: the smallest comes first."""
        return (self.sign * sample.score, sample.position)

    def worst_key(self, sample: Sample) -> tuple[float, int]:
        """Return what orders samples from the worst, over ranks too: the smallest comes first."""
        return (-self.sign * sample.score if math.isfinite(sample.score) else -math.inf, sample.position)


@stored_as("SmallestSamples")
class _Smallest:
    """The samples of the ``count`` smallest keys, each id once."""

    def __init__(self, count: int):
        self.count = count
        self.limit = math.inf  # the largest key that can still enter: a quick test before ``wants``
        self._kept: dict[Any, tuple[tuple[float, int], Sample]] = {}

    def wants(self, key: tuple[float, int], sample_id: Any) -> bool:
        # Known by its id: repeated by a sampler, it must improve on itself, and takes no other's place.
        if sample_id in self._kept:
            return key < self._kept[sample_id][0]
        return len(self._kept) < self.count or key < self._last()[0]

    def make_room(self, sample_id: Any) -> None:
        """Drop the sample that gives way to a wanted one."""
        # Before the new one is taken, so that never more than k images are held.
        if sample_id in self._kept:
            del self._kept[sample_id]
        elif len(self._kept) == self.count:
            del self._kept[self._last()[1].sample_id]

    def add(self, key: tuple[float, int], sample: Sample) -> None:
        self._kept[sample.sample_id] = (key, sample)
        if len(self._kept) == self.count:
            self.limit = self._last()[0][0]

    def sorted(self) -> list[Sample]:
        return [sample for _, sample in sorted(self._kept.values(), key=lambda entry: entry[0])]

    def _last(self) -> tuple[tuple[float, int], Sample]:
        return max(self._kept.values(), key=lambda entry: entry[0])


def is_no_success(score: float, worst: Sequence[float], *, minimize: bool) -> bool:
    """Whether a score is 0 where larger is better, and nothing is worse: then it must not be among the best.

    An untrained detector has an F1 of 0 everywhere, and its first samples are no better than its others.

    Args:
        score: of a sample or of a batch.
        worst: the scores of the worst ones.
        minimize: whether a smaller score is better.
    """
    known = [one for one in worst if math.isfinite(one)]
    return not minimize and score == 0 and bool(known) and min(known) == 0
