"""Chance as a function of seed, epoch and index."""

import io
import random

import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Keep
from torch import nn
from torch.utils.data import DataLoader, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from assay.runner import BalancedSampler
from assay.runner.data.seeding import mix, rng_state, seed_everything, seed_order, set_rng_state


def draw():
    """Draw from every generator of the process."""
    return random.random(), np.random.normal(), np.random.randint(1 << 30), torch.randn(3).tolist()


class Order(dl.Callback):
    """Keeps the ids of each epoch's samples in their order."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.Metric)
        self.ids = {}

    def on_batch_end(self, runner):
        self.ids.setdefault(runner.epoch_step, []).extend(runner.batch["sample_id"])


class Dropping(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.drop = net, nn.Dropout(0.5)

    def forward(self, image):
        return self.net(self.drop(image))


@pytest.fixture
def run(make_net, make_items, train):
    """Train with shuffling and dropout; return the order of each epoch and the final weights."""

    def run(epochs=2, *, sampler=None, workers=0, persistent=False, **options):
        items = make_items()
        loader = DataLoader(
            items,
            batch_size=4,
            shuffle=sampler is None,
            sampler=sampler and sampler(items),
            num_workers=workers,
            persistent_workers=persistent,
        )
        model, order = Dropping(make_net()), Order()
        train(model, {"train": loader}, epochs=epochs, callbacks=[order], **options)
        return order.ids, model.state_dict()

    return run


# -- seeds ------------------------------------------------------------------------------------------------------------


def test_one_seed_comes_of_several_numbers_and_changes_with_any_of_them():
    numbers = [(1, 2, 3), (1, 2, 4), (2, 1, 3), (3, 2, 1), (1, 2), (1, 2, 0), (1, 2, 0, 0), (0,), (0, 0), (12, 3)]
    seeds = [mix(*each) for each in numbers]
    assert seeds == [mix(*each) for each in numbers]
    assert len(set(seeds)) == len(numbers)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_seeds_of_neighbours_are_spread_over_the_whole_range():
    seeds = np.array([mix(7, epoch, index) for epoch in range(20) for index in range(50)])
    counts, _ = np.histogram(seeds, bins=8, range=(0, 2**32))
    assert len(set(seeds)) == len(seeds)
    assert counts.min() > 80  # 125 of 1000 in each eighth, and a standard deviation of 10


def test_seeding_repeats_what_every_generator_draws():
    seed_everything(1, 2)
    first = draw()
    seed_everything(1, 3)
    other = draw()
    seed_everything(1, 2)
    assert draw() == first
    assert all(one != another for one, another in zip(first, other, strict=True))


def test_the_state_of_every_generator_survives_a_file_that_is_loaded_without_executing():
    seed_everything(3)
    np.random.normal()  # the second normal number of a pair is kept within the state
    file = io.BytesIO()
    torch.save(rng_state(), file)
    expected = [draw(), draw()]
    seed_everything(4)
    file.seek(0)
    set_rng_state(torch.load(file, weights_only=True))
    assert [draw(), draw()] == expected


# -- order ------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_order_and_weights_twice(run, assert_same_weights):
    first_order, first_weights = run(seed=5)
    torch.randn(7)  # whatever was drawn in between
    second_order, second_weights = run(seed=5)
    assert first_order == second_order
    assert_same_weights(first_weights, second_weights)


def test_another_seed_gives_another_order_and_other_weights(run):
    first_order, first_weights = run(seed=5)
    second_order, second_weights = run(seed=6)
    assert first_order != second_order
    assert not torch.equal(first_weights["net.body.weight"], second_weights["net.body.weight"])


def test_no_epoch_of_one_seed_draws_what_another_epoch_of_a_neighbouring_seed_draws(make_net, make_loader, train):
    # Catalyst seeds with seed + rank + epoch, so that the second epoch of one seed repeats the first of the next.
    def drawn(seed):
        draws = Keep(lambda runner: draw(), hook="on_batch_start", order=0)
        train(make_net(), {"train": make_loader(4)}, epochs=2, seed=seed, callbacks=[draws])
        return draws.kept

    first, second = drawn(5), drawn(6)
    assert drawn(5) == first
    for one, another in zip(first[1], second[0], strict=True):
        assert one != another


def test_every_epoch_has_an_order_of_its_own_and_all_samples(run, make_items):
    order, _ = run(epochs=3)
    ids = sorted(item["sample_id"] for item in make_items())
    assert [sorted(order[epoch]) for epoch in (1, 2, 3)] == [ids] * 3
    assert len({tuple(order[epoch]) for epoch in (1, 2, 3)}) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_of_a_resumed_run_has_the_order_of_one_that_ran_straight(run, tmp_path, workers):
    straight, _ = run(epochs=3)
    run(epochs=2, logdir=str(tmp_path))
    resumed, _ = run(epochs=3, resume=str(tmp_path), workers=workers)
    assert list(resumed) == [3]
    assert resumed[3] == straight[3]


def test_workers_do_not_change_the_order(run):
    assert run(workers=2, persistent=True)[0] == run()[0]


@pytest.mark.parametrize(
    "sampler",
    [
        lambda items: RandomSampler(items, replacement=True, num_samples=9),
        lambda items: WeightedRandomSampler([1.0] * 20 + [50.0], 9),
        lambda items: SubsetRandomSampler(range(9)),
        lambda items: BalancedSampler([0] * 15 + [1] * 6, samples=9),
    ],
    ids=["with replacement", "weighted", "subset", "balanced"],
)
def test_the_order_of_any_random_sampler_follows_from_seed_and_epoch(run, sampler):
    first, _ = run(sampler=sampler, seed=5)
    assert run(sampler=sampler, seed=5)[0] == first
    assert run(sampler=sampler, seed=6)[0] != first
    assert first[1] != first[2]


def test_a_sampler_in_order_stays_in_order(make_items):
    loader = DataLoader(make_items(), batch_size=4)
    seed_order(loader, 5, 1)
    assert [name for batch in loader for name in batch["sample_id"]] == [item["sample_id"] for item in make_items()]


def test_samplers_and_data_sets_are_told_the_epoch(make_items):
    class Told(list):
        def set_epoch(self, epoch):
            self.epoch = epoch

    items = Told(make_items())
    sampler = Told(range(21))
    seed_order(DataLoader(items, batch_size=4, sampler=sampler), 5, 3)
    assert (items.epoch, sampler.epoch) == (3, 3)


def test_a_run_tells_its_own_count_of_epochs_to_data_sets_when_it_is_resumed(make_net, make_items, train, tmp_path):
    class Telling(list):
        """Notes the epoch that an item is asked for in."""

        def __init__(self, items):
            super().__init__(items)
            self.epoch, self.asked = None, set()

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __getitem__(self, index):
            self.asked.add(self.epoch)
            return super().__getitem__(index)

    first, second = Telling(make_items(4)), Telling(make_items(4))
    train(make_net(), {"train": DataLoader(first, 4)}, epochs=2, logdir=str(tmp_path))
    train(make_net(), {"train": DataLoader(second, 4)}, epochs=4, resume=str(tmp_path))
    assert (first.asked, second.asked) == ({1, 2}, {3, 4})
