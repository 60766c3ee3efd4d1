"""Share a loader out to ranks: each takes its part of one order that every rank knows."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from assay.callbacks.support.distributed import from_main_rank
from assay.callbacks.support.runner_view import BatchPlace

from .fetching import Batch, fetch_by_chance
from .seeding import seed_everything, seed_order
from .selection.balanced_sampler import BalancedSampler

SAMPLES_OF_STAND_IN = 2
# What these draw follows from the seeds alone, so that each rank can draw it for itself.
_SEEDED_SAMPLERS = (RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler, BalancedSampler)


@dataclass(frozen=True)
class RankBatch:
    """The batch of one rank in one round, in which every rank takes at most one batch.

    Attributes:
        indices: of the samples to load; none where the rank sits the round out.
        samples: how many of them count: all, or none where they only stand in for a batch.
        place: where the batch stands in the loader of all ranks together.
        round_samples: number of samples of the round, over all ranks.
    """

    indices: list[int]
    samples: int
    place: BatchPlace
    round_samples: int


class Shard(Sampler[list[int]]):
    """The batches of one rank, drawn anew for each epoch.

    A loader that trains is read in rounds: the ranks take the batches of a round in turn, and what is left for the
    last one is split as evenly as it goes. A rank that gets nothing of it loads a stand-in that does not count, so that
    all make the same number of steps. With ``drop_last`` the last round is left out where it is not full. Other
    loaders are not padded: batch b of the order goes to rank b modulo the ranks.

    Args:
        loader: the loader as it would run on one rank.
        rank: this process.
        ranks: number of processes.
        trains: whether it is for training.
    """

    def __init__(self, loader: DataLoader[Any], rank: int, ranks: int, *, trains: bool):
        self.loader = loader
        self.rank = rank
        self.ranks = ranks
        self.trains = trains
        self.batch_sampler: Any = loader.batch_sampler
        self.is_plain = type(self.batch_sampler) is BatchSampler  # another may put into a batch what belongs together
        self.rank_batches: list[RankBatch] = []  # one per round
        self.seed = self.epoch = 0  # that the order is drawn for
        self.first = 0  # round to begin with: those before it were done before the run was interrupted
        self.batches = 0  # of all ranks, as are the samples
        self.samples = 0
        self.lone_samples = 0  # batches of one sample, of all ranks
        self.foreseen = False  # whether lone samples have been checked for in this epoch

    def __len__(self) -> int:
        batches = len(self.batch_sampler)
        return self._count_rounds(batches) if self.trains else len(range(self.rank, batches, self.ranks))

    def __iter__(self) -> Iterator[list[int]]:
        left = self.rank_batches[self.first :]
        return (Batch(one.indices, self.seed, self.epoch) for one in left if one.indices)

    # Not called ``set_epoch``: ``seed_order`` calls that with the epoch alone, also on a shard inside another one, as
    # when a user evaluates on a loader of the runner.
    def draw_epoch(self, seed: int, epoch: int) -> None:
        """Draw the order of an epoch and take this rank's part of it.

        All generators are seeded for that. A loader with a ``fixed_epoch`` repeats what that epoch draws. A collective
        where the sampler is not one of torch's.
        """
        epoch = self.loader.__dict__.get("fixed_epoch", epoch)
        self.seed, self.epoch = seed, epoch
        seed_everything(seed, epoch)
        seed_order(self.loader, seed, epoch)
        order = [list(batch) for batch in self.batch_sampler]
        # A sampler of the user's may draw from what differs between ranks: the main rank's order holds for all.
        if not (self.is_plain and type(self.batch_sampler.sampler) in _SEEDED_SAMPLERS):
            order = from_main_rank(order)
        self.rank_batches, self.batches, self.samples, self.first = [], 0, 0, 0
        rounds = self._rounds(order)
        self.lone_samples = sum(len(piece) == 1 for pieces in rounds for piece in pieces)
        self.foreseen = False
        for pieces in rounds:
            self._take(pieces)

    def _take(self, pieces: Sequence[list[int]]) -> None:
        before, mine = pieces[: self.rank], pieces[self.rank]
        place = BatchPlace(self.batches + sum(map(bool, before)) + 1, self.samples + sum(map(len, before)))
        # Two copies of one sample, as a layer that normalizes over the batch refuses a single one.
        indices = mine or ([pieces[0][0]] * SAMPLES_OF_STAND_IN if self.trains else [])
        in_round = sum(map(len, pieces))
        self.rank_batches.append(RankBatch(indices, len(mine), place, in_round))
        self.batches += sum(map(bool, pieces))
        self.samples += in_round

    def _rounds(self, order: list[list[int]]) -> list[list[list[int]]]:
        """Return the samples of each rank, round by round."""
        rounds = [order[first : first + self.ranks] for first in range(0, len(order), self.ranks)]
        if self.trains:
            del rounds[self._count_rounds(len(order)) :]
        if not rounds:
            return []
        *full, last = rounds
        if not self.trains:
            return [*full, last + [[]] * (self.ranks - len(last))]
        if not self.is_plain:
            return [*full, split(last, self.ranks)]
        return [*full, split([list(chain(*last))], self.ranks, self.batch_sampler.batch_size)]

    def _count_rounds(self, batches: int) -> int:
        drops = self.is_plain and self.batch_sampler.drop_last
        return batches // self.ranks if drops else -(-batches // self.ranks)


def split(batches: Sequence[list[int]], count: int, largest: int | None = None) -> list[list[int]]:
    """Split batches as evenly as it goes into ``count`` pieces, the last of which may be empty.

    No piece mixes two batches. None holds a single sample where it can be helped: a layer that normalizes over the
    batch refuses that.

    Args:
        batches: not empty, and no more than ``count``.
        count: number of pieces.
        largest: size of a piece that is not to be exceeded; by default that of its batch.

    Example:
        >>> split([[0, 1, 2, 3], [4, 5, 6]], count=3)
        [[0, 1, 2, 3], [4, 5, 6], []]
    """
    pieces = []
    for number, batch in enumerate(batches):
        share = count * (number + 1) // len(batches) - count * number // len(batches)
        parts = max(1, -(-len(batch) // (largest or len(batch))), min(share, len(batch) // 2))
        bounds = [-(-len(batch) * part // parts) for part in range(parts + 1)]  # rounded up: the first get more
        pieces += [batch[first:last] for first, last in pairwise(bounds)]
    return pieces + [[]] * (count - len(pieces))


def shard_loader(
    loader: DataLoader[Any], rank: int, ranks: int, *, trains: bool, pin_memory: bool = False
) -> DataLoader[Any]:
    """Return a loader that gives one rank its share; ``batch_sampler.draw_epoch`` starts each of its epochs.

    Args:
        loader: the loader as it would run on one rank. It is left as it is.
        rank: see ``Shard``.
        ranks: see ``Shard``.
        trains: see ``Shard``.
        pin_memory: whether batches go to pinned memory, from where they are copied to a GPU without blocking.
    """
    sharded = copy.copy(loader)
    # A loader that is made refuses another sampler, and a new one would lose what a subclass does.
    sharded.__dict__.update(batch_sampler=Shard(loader, rank, ranks, trains=trains), _iterator=None)
    sharded.pin_memory = loader.pin_memory or pin_memory
    fetch_by_chance(sharded)
    return sharded


def end_workers(loaders: Iterable[DataLoader[Any]], batches: Iterator[Any] | None = None) -> None:
    """End the workers of loaders that are done with, of which some live from epoch to epoch.

    They would end with the loaders. But where those fall to the garbage collector, as after an error, it takes the
    workers' queues first: then each is told in vain, and waited for for 5 s.

    Args:
        loaders: made by ``shard_loader``.
        batches: what ``iter`` returned for one of them, where it was left before its end.
    """
    iterators: list[Any] = [batches]
    for loader in loaders:
        iterators.append(loader._iterator)
        loader._iterator = None
    for iterator in iterators:
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()


def count_rounds(loader: DataLoader[Any], ranks: int) -> int:
    """Return how many batches each rank takes of a loader that trains, which is the same on all."""
    return len(Shard(loader, 0, ranks, trains=True))
