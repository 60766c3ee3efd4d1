"""Shards of one order: which rank takes which samples, on any sampler."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from assay.runner import UsageError
from assay.runner.data.sharding import count_rounds, shard_loader, split

RANKS = [1, 2, 3]
COUNTS = [2, 3, 8, 21, 24, 250, 251]


class Shuffled:
    """A user's own sampler: it draws from NumPy's generator, and torch knows nothing of it."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __iter__(self):
        return iter(np.random.permutation(self.count).tolist())


class ByKind:
    """A user's own batch sampler: a batch holds even numbers or odd ones, never both."""

    def __init__(self, count, batch_size):
        kinds = [list(range(kind, count, 2)) for kind in (0, 1)]
        self.batches = [kind[first : first + batch_size] for kind in kinds for first in range(0, len(kind), batch_size)]

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return (self.batches[i] for i in torch.randperm(len(self.batches)).tolist())


def draw(loader, ranks, *, trains, seed=5, epoch=1):
    """Return the turns of each rank, and its loader."""
    loaders = [shard_loader(loader, rank, ranks, trains=trains) for rank in range(ranks)]
    for each in loaders:
        each.batch_sampler.draw_epoch(seed, epoch)
    return [each.batch_sampler.rank_batches for each in loaders], loaders


def in_rounds(turns):
    """Return the samples that count, round by round and within it rank by rank."""
    return [turn.indices[: turn.samples] for at_once in zip(*turns, strict=True) for turn in at_once]


def flat(lists):
    return [index for each in lists for index in each]


def order_of(loader, **options):
    """Return the order of one rank."""
    ((turns,), _) = draw(loader, 1, trains=True, **options)
    return flat(turn.indices for turn in turns)


def samplers(count):
    items = range(count)
    return {
        "sequential": SequentialSampler(items),
        "random": RandomSampler(items),
        "replacement": RandomSampler(items, replacement=True, num_samples=2 * count),
        "weighted": WeightedRandomSampler([1.0 + (i == 0) * 50 for i in items], 3 * count),
        "subset": SubsetRandomSampler(range(0, count, 2)),
        "own": Shuffled(count),
        "list": list(reversed(items)),
    }


@pytest.mark.parametrize("name", samplers(4))
@pytest.mark.parametrize("ranks", RANKS)
def test_the_shards_of_any_sampler_are_a_partition_of_the_order_that_one_rank_draws(ranks, name):
    for count in (2, 21, 24):
        loader = DataLoader(range(count), batch_size=4, sampler=samplers(count)[name])
        expected = order_of(loader)
        torch.randn(7), np.random.randn(7)  # whatever else was drawn
        turns, _ = draw(loader, ranks, trains=True)
        assert flat(in_rounds(turns)) == expected
        assert Counter(expected) == Counter(order_of(loader))
        assert len({len(each) for each in turns}) == 1  # all end together
        assert len(turns[0]) == count_rounds(loader, ranks) == -(-len(expected) // (4 * ranks))


@pytest.mark.parametrize("name", ["random", "replacement", "weighted", "subset", "own"])
def test_each_epoch_and_each_seed_has_an_order_of_its_own(name):
    loader = DataLoader(range(30), batch_size=4, sampler=samplers(30)[name])
    orders = [order_of(loader, seed=seed, epoch=epoch) for seed in (5, 6) for epoch in (1, 2)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == order_of(loader, seed=5, epoch=1)


def test_a_weighted_sampler_keeps_its_weights_over_ranks():
    weights = [1.0] * 50 + [3.0] * 50
    loader = DataLoader(range(100), batch_size=8, sampler=WeightedRandomSampler(weights, 20000))
    turns, _ = draw(loader, 2, trains=True)
    for each in turns:
        heavy = np.mean([index >= 50 for turn in each for index in turn.indices])
        assert heavy == pytest.approx(0.75, abs=0.02)  # a standard deviation of 0.004


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("ranks", RANKS)
def test_the_last_round_is_split_evenly_and_a_rank_without_a_sample_gets_a_stand_in(ranks, count):
    turns, loaders = draw(DataLoader(range(count), batch_size=8), ranks, trains=True)
    for at_once in list(zip(*turns, strict=True))[:-1]:
        assert [turn.samples for turn in at_once] == [8] * ranks
    last = [each[-1] for each in turns]
    sizes = [turn.samples for turn in last]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] - min(size for size in sizes if size) <= 1
    assert 0 not in sizes or count < 2 * ranks or sum(sizes) < 2 * ranks
    assert 1 not in sizes
    assert all(turn.indices and (turn.samples or len(turn.indices) == 2) for turn in last)
    assert {len(list(each)) for each in loaders} == {len(turns[0])}


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("ranks", RANKS)
def test_validation_gives_the_batches_of_one_rank_in_turn_without_padding(ranks, count):
    turns, loaders = draw(DataLoader(range(count), batch_size=8), ranks, trains=False)
    expected = [list(range(count))[first : first + 8] for first in range(0, count, 8)]
    for rank, each in enumerate(loaders):
        assert [batch.tolist() for batch in each] == expected[rank::ranks]
        assert len(each) == len(expected[rank::ranks])
    assert len({len(each) for each in turns}) == 1
    assert [batch for batch in in_rounds(turns) if batch] == expected


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("ranks", RANKS)
def test_places_number_the_batches_and_samples_of_all_ranks_together(ranks, count, trains):
    turns, loaders = draw(DataLoader(range(count), batch_size=8), ranks, trains=trains)
    seen = [turn for at_once in zip(*turns, strict=True) for turn in at_once if turn.samples]
    assert [turn.place.batch for turn in seen] == list(range(1, len(seen) + 1))
    assert [turn.place.first_sample for turn in seen] == [turn.indices[0] for turn in seen]
    for each, loader in zip(turns, loaders, strict=True):
        assert sum(turn.round_samples for turn in each) == loader.batch_sampler.samples == count
        assert loader.batch_sampler.batches == len(seen)


@pytest.mark.parametrize(("ranks", "rounds"), [(1, 2), (2, 1), (3, 0)])
def test_drop_last_leaves_out_a_round_that_is_not_full(ranks, rounds):
    loader = DataLoader(range(21), batch_size=8, drop_last=True)
    turns, loaders = draw(loader, ranks, trains=True)
    assert flat(in_rounds(turns)) == list(range(rounds * 8 * ranks))
    assert count_rounds(loader, ranks) == len(loaders[0]) == rounds


@pytest.mark.parametrize("trains", [True, False])
@pytest.mark.parametrize("ranks", RANKS)
def test_the_batches_of_a_users_batch_sampler_are_never_mixed(ranks, trains):
    loader = DataLoader(range(37), batch_sampler=ByKind(37, 4))
    turns, _ = draw(loader, ranks, trains=trains)
    batches = in_rounds(turns)
    assert sorted(flat(batches)) == list(range(37))
    assert all(len({index % 2 for index in batch}) <= 1 for batch in batches)
    assert not trains or len({len(each) for each in turns}) == 1


def test_a_batch_sampler_of_torch_around_a_users_sampler_is_split_like_any():
    loader = DataLoader(range(21), batch_sampler=BatchSampler(Shuffled(21), 4, drop_last=False))
    turns, _ = draw(loader, 2, trains=True)
    assert [turn.samples for turn in turns[0]] == [4, 4, 3]
    assert [turn.samples for turn in turns[1]] == [4, 4, 2]


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([5], 2, [3, 2]),
        ([10], 3, [4, 3, 3]),
        ([4, 4], 3, [4, 2, 2]),
        ([4, 4], 2, [4, 4]),
        # a single sample is no batch
        ([5], 3, [3, 2, 0]),
        ([2], 3, [2, 0, 0]),
        ([4, 3], 4, [2, 2, 3, 0]),
        ([1], 3, [1, 0, 0]),
    ],
)
def test_splitting_gives_the_first_ranks_more_and_keeps_the_order(sizes, count, expected):
    bounds = np.cumsum([0, *sizes]).tolist()
    batches = [list(range(first, last)) for first, last in pairwise(bounds)]
    pieces = split(batches, count)
    assert [len(piece) for piece in pieces] == expected
    assert flat(pieces) == flat(batches)


def test_no_piece_is_larger_than_a_batch_even_if_a_single_sample_is_left():
    turns, _ = draw(DataLoader(range(2), batch_size=1), 3, trains=True)
    assert [each[0].samples for each in turns] == [1, 1, 0]
    assert split([[0, 1, 2]], 2, 2) == [[0, 1], [2]]


@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_workers_persistent_or_not_give_the_order_of_each_epoch(workers, persistent):
    loader = DataLoader(range(21), 4, shuffle=True, num_workers=workers, persistent_workers=persistent)
    sharded = shard_loader(loader, 1, 2, trains=True)
    for epoch in (1, 2):
        sharded.batch_sampler.draw_epoch(5, epoch)
        expected = draw(DataLoader(range(21), 4, shuffle=True), 2, trains=True, epoch=epoch)[0][1]
        assert [batch.tolist() for batch in sharded] == [turn.indices for turn in expected]


class Endless(IterableDataset):
    def __len__(self):
        return 4

    def __iter__(self):
        return iter([{"image": torch.zeros(4, dtype=torch.float64), "target": 0}] * 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"dataset": Endless(), "batch_size": 2},
            "loader 'train' must have a data set with a length",
        ),
        ({"batch_size": None}, "loader 'train' must make batches: give it a batch_size or a batch_sampler"),
        (
            {"sampler": DistributedSampler(range(4), num_replicas=2, rank=0)},
            "loader 'train' must give all samples, got a DistributedSampler: the runner shares them out",
        ),
    ],
)
def test_a_loader_that_cannot_be_shared_out_is_refused(make_net, make_items, train, options, message):
    with pytest.raises(UsageError, match=message):
        train(make_net(), {"train": DataLoader(**{"dataset": make_items(4), **options})})


def test_the_loader_that_is_shared_out_is_left_as_it_is():
    loader = DataLoader(range(21), batch_size=4)
    before = dict(loader.__dict__)
    sharded = shard_loader(loader, 0, 2, trains=True, pin_memory=True)
    assert loader.__dict__ == before
    assert (type(sharded), sharded.pin_memory, loader.pin_memory) == (DataLoader, True, False)
    assert (sharded.dataset, sharded.batch_size) == (loader.dataset, 4)
