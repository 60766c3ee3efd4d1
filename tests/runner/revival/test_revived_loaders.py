"""Catalyst's loaders: wrappers, samplers, and shards over processes."""

import numpy as np
import pytest
import torch
from catalyst import dl
from catalyst.contrib.data.sampler import BalanceBatchSampler
from catalyst.data import sampler as samplers
from kit import Keep
from stock_projects import make_loader, make_model, train_stock
from torch.utils.data import BatchSampler, Sampler

from assay.runner.revival.loaders import EvenShard, deal

LABELS = [0] * 6 + [1] * 4 + [2] * 8


def overfit(limits):
    """Return how many batches an epoch has and how many of them differ, for both loaders of two epochs."""
    seen = Keep(lambda runner: (runner.epoch_step, runner.loader_key, float(runner.batch["features"].sum())), order=1)
    loaders = {"train": make_loader(), "valid": make_loader()}
    callbacks = [dl.BatchOverfitCallback(**limits), seen]
    train_stock(make_model(), loaders, callbacks=callbacks, epochs=2)
    batches = [[batch for *place, batch in seen.kept if place == [e, key]] for e in (1, 2) for key in loaders]
    return [(len(sums), len(set(sums))) for sums in batches]


@pytest.mark.parametrize(("limits", "expected"), [({}, [1, 1]), ({"train": 3, "valid": 0.5}, [3, 3])])
def test_an_epoch_can_repeat_a_few_batches(revived, limits, expected):
    assert revived(1, overfit, limits) == [[(7, count) for count in expected * 2]]


class Owns(Sampler):
    def __init__(self, data):
        super().__init__(data)
        self.data = data

    def __iter__(self):
        return iter(range(len(self.data)))


def draw():
    np.random.seed(0)
    made = [
        samplers.BalanceClassSampler(LABELS, mode="upsampling"),
        samplers.BatchBalanceClassSampler(LABELS, num_classes=2, num_samples=3),
        samplers.DynamicBalanceClassSampler(LABELS),
        samplers.MiniEpochSampler(len(LABELS), mini_epoch_len=5),
        samplers.DistributedSamplerWrapper(samplers.BalanceClassSampler(LABELS), num_replicas=2, rank=1),
        BalanceBatchSampler(LABELS, p=2, k=2),
        Owns(LABELS),
    ]
    return [[np.asarray(indices).tolist() for indices in sampler] for sampler in made]


def test_samplers_are_made_and_draw(revived):
    ((balanced, batches, dynamic, mini, shard, pairs, own),) = revived(1, draw)
    labels = np.array(LABELS)
    assert np.bincount(labels[balanced]).tolist() == [8, 8, 8]
    assert all(np.unique(labels[batch], return_counts=True)[1].tolist() == [3, 3] for batch in batches)
    assert set(dynamic) <= set(range(18))
    assert len(mini) == 5
    assert len(shard) == 6
    assert len(np.unique(labels[pairs[:4]])) == 2
    assert own == list(range(18))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 3, 8, 17, 25, 26, 48, 250])
def test_shards_share_all_samples_out(count, ranks, batch_size):
    whole = BatchSampler(range(count), batch_size, drop_last=False)
    shards = [EvenShard(whole, rank, ranks) for rank in range(ranks)]
    mine = [list(shard) for shard in shards]
    steps = {len(batches) for batches in mine} | {len(shard) for shard in shards}
    taken = sorted(index for batches in mine for batch in batches for index in batch)
    spare = max(0, steps.copy().pop() * ranks - count)  # batches that no sample is left for
    assert len(steps) == 1
    assert sorted(set(taken)) == list(range(count))
    assert len(taken) == count + spare
    assert all(1 <= len(batch) <= batch_size for batches in mine for batch in batches)


@pytest.mark.parametrize(("drop_last", "expected"), [(True, [[[0, 1]], [[2, 3]]]), (False, None)])
def test_a_round_that_is_not_full_is_dropped_where_batches_are(drop_last, expected):
    mine = [list(EvenShard(BatchSampler(range(7), 2, drop_last), rank, 2)) for rank in range(2)]
    assert mine == (expected or [[[0, 1], [4, 5]], [[2, 3], [6]]])


def test_batches_that_belong_together_stay_together():
    class Pairs:
        batch_size = 2

        def __iter__(self):
            return iter([[0, 9], [1, 8], [2, 7]])

        def __len__(self):
            return 3

    assert [list(EvenShard(Pairs(), rank, 2)) for rank in range(2)] == [[[0, 9], [2, 7]], [[1, 8], [2, 7]]]


def test_samples_are_dealt_out_evenly():
    assert deal(list(range(7)), 3) == [[0, 1], [2, 3], [4, 5, 6]]
    assert deal([4], 2) == [[4], [4]]


def test_the_wrapped_loader_says_what_it_lacks():
    from catalyst.data.loader import BatchLimitLoaderWrapper

    from assay.runner.revival.loaders import _ask_origin

    wrapper = BatchLimitLoaderWrapper(make_loader(), 2)
    assert _ask_origin(wrapper, "batch_size") == 4
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ask_origin(wrapper, "no_such_thing")


def test_torch_six(revived):
    assert revived(1, read_torch_six) == [(True, True)]


def read_torch_six():
    from torch._six import container_abcs, string_classes

    return isinstance("a", string_classes), hasattr(container_abcs, "Mapping") and torch._six.inf > 0
