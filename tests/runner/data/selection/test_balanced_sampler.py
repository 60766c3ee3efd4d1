"""A sampler that draws every class equally often: counts, order, ranks."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from assay.runner import BalancedSampler, ItemList, UsageError
from assay.runner.data.sharding import shard_loader

TARGETS = [0] * 70 + [1] * 20 + [4] * 7 + [7] * 3


def classes_of(indices):
    return Counter(TARGETS[index] for index in indices)


@pytest.mark.parametrize("samples", [None, 3, 101, 1000])
def test_every_class_is_drawn_equally_often_up_to_one(samples):
    drawn = list(BalancedSampler(TARGETS, samples=samples))
    counts = classes_of(drawn)
    assert len(drawn) == (100 if samples is None else samples)
    assert max(counts.values()) - min(counts.get(one, 0) for one in (0, 1, 4, 7)) <= 1


@pytest.mark.parametrize("samples", [100, 333])
def test_every_item_of_a_class_is_drawn_equally_often_up_to_one(samples):
    counts = Counter(BalancedSampler(TARGETS, samples=samples))
    for one in (0, 1, 4, 7):
        of_class = [counts[index] for index, target in enumerate(TARGETS) if target == one]
        assert max(of_class) - min(of_class) <= 1


def test_chance_decides_which_classes_get_one_more():
    generator = torch.Generator().manual_seed(0)
    sampler = BalancedSampler(TARGETS, samples=101, generator=generator)
    favoured = {max(counts, key=counts.get) for counts in (classes_of(sampler) for _ in range(60))}
    assert favoured == {0, 1, 4, 7}


def test_the_classes_are_mixed():
    drawn = [
        TARGETS[index] for index in BalancedSampler(TARGETS, samples=400, generator=torch.Generator().manual_seed(0))
    ]
    counts = [Counter(drawn[first : first + 100]) for first in range(0, 400, 100)]
    assert all(12 < one[kind] < 38 for one in counts for kind in (0, 1, 4, 7))


def epochs_of(loader, ranks, epoch):
    loaders = [shard_loader(loader, rank, ranks, trains=True) for rank in range(ranks)]
    for one in loaders:
        one.batch_sampler.draw_epoch(5, epoch)
    return [[batch.indices[: batch.samples] for batch in one.batch_sampler.rank_batches] for one in loaders]


@pytest.mark.parametrize("epoch", [1, 2])
def test_one_process_and_three_draw_the_same_items_and_each_rank_its_share(epoch):
    loader = DataLoader(TARGETS, batch_size=8, sampler=BalancedSampler(TARGETS))
    (alone,) = epochs_of(loader, 1, epoch)
    three = epochs_of(loader, 3, epoch)
    assert Counter(chain(*alone)) == Counter(chain(*chain(*three)))
    assert {len(one) for one in three} == {5}
    assert alone[:4] == [three[place % 3][place // 3] for place in range(4)]


def test_epochs_differ_and_an_epoch_that_is_drawn_again_does_not():
    loader = DataLoader(TARGETS, batch_size=8, sampler=BalancedSampler(TARGETS))
    first, second, again = (epochs_of(loader, 1, epoch) for epoch in (1, 2, 1))
    assert first == again != second


@pytest.mark.parametrize("targets", [[0.5, 1.0], torch.eye(3), [], torch.zeros(3, 1, dtype=torch.int64)], ids=repr)
def test_targets_that_are_no_class_numbers_are_refused(targets):
    with pytest.raises(UsageError, match="targets must be one class number per item, got"):
        BalancedSampler(targets)


def test_samples_must_be_some():
    with pytest.raises(UsageError, match="samples must be an integer of at least 1, got 0"):
        BalancedSampler([0, 1], samples=0)


def test_items_give_their_classes_and_those_of_several_classes_are_refused():
    columns = {"image": ["a.jpg", "b.jpg", "c.jpg"], "target": [0, 0, 1]}
    items = ItemList("/data", columns, task="multiclass", layout="a test", class_names=["x", "y"])
    assert Counter(BalancedSampler.of(items.take([0, 1, 2, 2])))[0] <= 1
    columns["target"] = [np.ones(2, dtype=np.float32)] * 3
    items = ItemList("/data", columns, task="multilabel", layout="a test", class_names=["x", "y"])
    with pytest.raises(
        UsageError, match="sampler balanced needs one class per image, and those of multilabel have any"
    ):
        BalancedSampler.of(items)
