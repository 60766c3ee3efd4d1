"""Ranks that share out the reading of samples find together what one finds alone."""

import multiprocessing
import random
import time
from dataclasses import fields

import numpy as np
import pytest
import torch
from kit import Named, fit
from rank_processes import HereOrRanks
from torch import nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import Findings
from assay.callbacks.findings.observe.data import shares
from assay.callbacks.findings.observe.data.loaders import observe_data
from assay.callbacks.findings.observe.data.sample_reader import Keys
from assay.callbacks.findings.observe.data.shares import Share, read_over_ranks
from assay.callbacks.support.distributed import process_rank
from assay.runner import DictRunner

pytestmark = pytest.mark.long("two processes read samples, as one does in the tests of loaders")


class Pictures(Dataset):
    """Images [3, 12, 12] with noise, classes and ids; some cannot be read; ``start`` tells data sets apart."""

    def __init__(self, count, start=0, *, ids=True, broken=(), seconds=0.0, twins=0):
        self.count, self.start, self.ids = count, start, ids
        self.broken, self.seconds, self.twins = broken, seconds, twins
        self.targets = [index % 3 for index in range(count)]

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        time.sleep(self.seconds)
        if index in self.broken:
            raise OSError(f"cannot open {index}")
        # The last ones are those at the beginning once more.
        number = self.start + (index if index < self.count - self.twins else index - self.count + self.twins)
        image = np.random.default_rng(number).normal(number % 3, 1, (3, 12, 12)).astype(np.float32)
        item = {"image": torch.from_numpy(image), "target": self.targets[index]}
        return item | ({"sample_id": f"s{self.start + index}"} if self.ids else {})


class Moved(Pictures):
    """Pictures with noise that is drawn anew each time."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return item | {"image": item["image"] + torch.rand(()) + np.random.rand() + random.random()}


def have_children():
    # The processes of the tests are daemons, which may have none; those of a run are none.
    multiprocessing.current_process()._config["daemon"] = False


def see(make, full=True, seconds=1.0):
    """Return what is seen of loaders, as plain values; on other ranks than the main one None."""
    have_children()
    torch.manual_seed(5)
    seen = observe_data(make(), keys=Keys(), full=full, seconds=seconds).loaders
    return {key: plain(probe) for key, probe in seen.items()} if process_rank() == 0 else None


def plain(part):
    if hasattr(part, "__dataclass_fields__"):
        return {one.name: plain(getattr(part, one.name)) for one in fields(part)}
    if isinstance(part, dict):
        return {str(key): plain(value) for key, value in part.items()}
    return [plain(one) for one in part] if isinstance(part, list | tuple) else part


def assert_same(one, other):
    """Compare what is plain, arrays by their numbers."""
    if isinstance(one, dict | list):
        assert type(one) is type(other) and len(one) == len(other)
        for key in one if isinstance(one, dict) else range(len(one)):
            assert_same(one[key], other[key])
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


def healthy():
    return {
        "train": DataLoader(Moved(90, broken=(7, 40)), 8, shuffle=True),
        "valid": DataLoader(Pictures(41, 1000, ids=False), 8),
        "test": DataLoader(Pictures(1, 2000), 8),
    }


def masks():
    items = [
        {"image": torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(it)), "target": torch.ones(16, 16)}
        for it in range(150)
    ]
    return {"train": DataLoader(items, 8, shuffle=True)}


def other_on_rank_1():
    return {"train": DataLoader(Pictures(90, 3000 * process_rank(), ids=False), 8)}


def fewer_on_rank_1():
    return {"train": DataLoader(Pictures(90 - 20 * process_rank()), 8)}


def no_children_on_rank_1():
    if process_rank() == 1:
        multiprocessing.current_process()._config["daemon"] = True
    return healthy()


@pytest.mark.parametrize("make", [healthy, masks, other_on_rank_1, fewer_on_rank_1, no_children_on_rank_1])
def test_two_ranks_see_what_one_sees(rank_processes, make):
    ranks = HereOrRanks(rank_processes)
    alone, together = ranks.run(1, see, make)[0], ranks.run(2, see, make)[0]
    assert alone["train"]["complete"]
    assert_same(together, alone)


def share_of_failing():
    def read(share):
        if process_rank() == 1:
            raise RuntimeError("nothing here")
        return {"train": {"samples": dict.fromkeys(share.stripes), "again": {}, "complete": True, "held": True}}

    return read_over_ranks(read)


def test_what_a_rank_fails_to_read_is_read_by_the_main_one(rank_processes):
    found = rank_processes.run(2, share_of_failing)
    assert found[0]["train"]["samples"].keys() == {0, 1} and found[1] == {}


def test_stripes_are_all_of_the_order():
    order = list(range(100, 150))
    parts = [Share((rank,), 3, leads=rank == 0).of_order(order) for rank in range(3)]
    assert {*parts[0], *parts[1], *parts[2]} == {*order}
    assert [part[: shares.COMMON] for part in parts] == [[100, 103]] * 3
    assert Share().of_order(order) == order


def count_slowly():
    have_children()
    seen = see(lambda: {"train": DataLoader(Pictures(2000, seconds=0.01), 8)}, full=False, seconds=2.0)
    return seen and len(seen["train"]["samples"])


def test_a_quick_check_reads_more_on_two_ranks(rank_processes):
    ranks = HereOrRanks(rank_processes)
    alone, together = ranks.run(1, count_slowly)[0], ranks.run(2, count_slowly)[0]
    assert together > 1.4 * alone


DATA_RULES = ("shared-images", "near-duplicates", "repeated-ids", "conflicting-labels", "unrelated-labels")


def train(check):
    have_children()
    findings = Findings(check, stop=False)
    model = Named(nn.Sequential(nn.Flatten(), nn.Linear(432, 3)), "logits")
    loaders = {
        "train": DataLoader(Pictures(90), 8, shuffle=True),
        "valid": DataLoader(Pictures(40, twins=12), 8),
    }
    torch.manual_seed(3)
    fit(DictRunner(), model, loaders, [findings], epochs=1, optimizer=torch.optim.SGD(model.parameters(), 0.01))
    return [it.as_dict() for it in findings.found_ if it.epoch == 0 and it.rule in DATA_RULES]


@pytest.mark.parametrize("check", ["quick", "full"])
def test_two_ranks_find_what_one_finds(rank_processes, check):
    ranks = HereOrRanks(rank_processes)
    (alone,), together = ranks.run(1, train, check), ranks.run(2, train, check)
    assert alone and together == [alone, alone]
