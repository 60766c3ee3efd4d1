"""Whatever a data set or a collate function raises is named by its item, and left out where that is wanted."""

import pytest
import torch
from kit import Named, fit
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset

from assay.callbacks import UsageError
from assay.runner import DictRunner
from assay.runner.data.bad_images import NoGoodImageError, WithoutBadImages
from assay.runner.data.worker_errors import one_line, worker_error

GOOD = {"image": torch.zeros(3, 4, 4), "target": 0}


def fail(error):
    raise error


class Leaves(Dataset):
    """Twelve items, of which the one with number 7 is made by a function."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.make() if index == 7 else dict(GOOD)


class Batches(Leaves):
    def __getitems__(self, indices):
        return [self[index] for index in indices]


def error_of(items, workers):
    model = Named(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)))
    with pytest.raises((ValueError, KeyError, TypeError, RuntimeError)) as caught:
        fit(DictRunner(), model, {"train": DataLoader(items, 4, num_workers=workers)})
    error = caught.value
    if (of := worker_error(error)) is not None:
        return of[0]
    return one_line(f"{type(error).__name__}: {error}", getattr(error, "__notes__", []))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("items", "line"),
    [
        (Leaves(lambda: fail(ValueError("crop of\n-3"))), "item 7 of the data set Leaves: ValueError: crop of -3"),
        (Subset(Leaves(lambda: {}["nope"]), range(6, 12)), "item 7 of the data set Leaves: KeyError: 'nope'"),
        (
            ConcatDataset([[GOOD] * 5, Subset(Leaves(lambda: fail(TypeError("no"))), [0, 7])]),
            "item 7 of the data set Leaves: TypeError: no",
        ),
        (Batches(lambda: fail(ValueError("no"))), "items 4, 5, 6, 7 of the data set Batches: ValueError: no"),
        (
            Leaves(lambda: {**GOOD, "image": torch.zeros(3, 5, 4)}),
            "items 4, 5, 6, 7 of the data set Leaves ('image' is [3, 4, 4] in item 4 and [3, 5, 4] in item 7): Runtime",
        ),
        (Leaves(lambda: None), "items 4, 5, 6, 7 of the data set Leaves (item 7 is None): TypeError"),
        (
            Leaves(lambda: {"image": GOOD["image"]}),
            "items 4, 5, 6, 7 of the data set Leaves ('target' is in item 4 and not in item 7): KeyError",
        ),
    ],
)  # fmt: skip
def test_the_item_is_named(items, line, workers):
    assert error_of(items, workers).startswith(line)


def test_the_line_of_a_worker_comes_with_the_frames_of_the_user():
    error = ValueError(
        "Caught ValueError in DataLoader worker process 1.\nOriginal Traceback (most recent call last):\n"
        '  File "/x/site-packages/torch/worker.py", line 3, in _worker_loop\n    data = fetch()\n'
        '  File "/home/me/leaves.py", line 9, in __getitem__\n    raise ValueError("no\\nleaf")\nValueError: no\nleaf\n'
        "Raised by item 7 of the data set Leaves.\n"
    )
    frames = '  File "/home/me/leaves.py", line 9, in __getitem__\n    raise ValueError("no\\nleaf")'
    assert worker_error(error) == ("item 7 of the data set Leaves: ValueError: no leaf", frames)
    assert worker_error(ValueError("no leaf")) is None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: fail(ValueError("crop of\n-3")), "item 7 of the data set Leaves: ValueError: crop of -3"),
        (lambda: fail(FileNotFoundError(2, "No such file", "a.jpg")), "item 7 .*FileNotFoundError: .*'a.jpg'"),
        (lambda: None, "item 7 of the data set Leaves is None"),
    ],
)
def test_an_item_is_left_out_and_listed_whatever_its_error(make, why):
    items = WithoutBadImages(Leaves(make))
    assert len(items.__getitems__([5, 6, 7])) == 2
    assert items.is_bad.nonzero().flatten().tolist() == [7]
    with pytest.raises(NoGoodImageError, match=f"none of the data set's 1 samples can be read; the last one: {why}"):
        WithoutBadImages(Subset(Leaves(make), [7])).__getitems__([0])


@pytest.mark.parametrize("error", [UsageError("colours must differ."), MemoryError()])
def test_wrong_use_and_lack_of_memory_are_no_fault_of_an_item(error):
    with pytest.raises(type(error)):
        WithoutBadImages(Leaves(lambda: fail(error))).__getitems__([7])


@pytest.mark.parametrize("workers", [0, 1])
def test_wrong_use_is_one_line_in_a_worker_too(workers):
    assert error_of(Leaves(lambda: fail(UsageError("colours must differ."))), workers) == (
        "UsageError: colours must differ."
    )
