"""What is collected of a loader's samples, and how much memory it takes."""

import gc
import sys
import tracemalloc

import numpy as np
import pytest
import torch

from assay.callbacks.history.collected import CollectedSamples, kept_ids, over_ranks


def collect(count, batch, classes=0, ids=lambda numbers: [f"{number:08d}" for number in numbers]):
    found = CollectedSamples(None)
    for first in range(0, count, batch):
        numbers = range(first, min(count, first + batch))
        rows = torch.tensor(numbers, dtype=torch.float32)[:, None].expand(-1, 7).contiguous()
        found.add("multiclass", first, kept_ids(ids(numbers)), rows, torch.zeros(len(numbers), classes))
    return found


@pytest.mark.parametrize("batch", [1, 7, 300])
@pytest.mark.parametrize(
    "ids",
    [
        lambda numbers: [f'ä"]{number}, [' for number in numbers],
        lambda numbers: torch.tensor(numbers),
        lambda numbers: torch.tensor(numbers) if numbers[0] % 2 else [*map(str, numbers)],
        lambda numbers: numbers,
    ],
    ids=["texts", "tensors", "both", "positions"],
)
def test_the_rows_are_those_of_the_batches(batch, ids):
    rows, why = over_ranks(collect(500, batch, classes=3, ids=ids), is_main=True)
    assert (why, rows.kind, rows.shares.shape) == ("", "multiclass", (500, 3))
    assert rows.positions.tolist() == rows.numbers[:, 0].tolist() == [*range(500)]
    wanted = [ids(range(first, min(500, first + batch))) for first in range(0, 500, batch)]
    texts = [str(name) for of in wanted for name in (of.tolist() if isinstance(of, torch.Tensor) else of)]
    assert rows.ids == texts


@pytest.mark.parametrize("batch", [1, 8, 64])
@pytest.mark.parametrize("classes", [0, 200])
def test_a_sample_takes_at_most_48_bytes_and_two_for_each_class(batch, classes):
    count = 20_000
    gc.collect()
    tracemalloc.start()
    found = collect(count, batch, classes)
    traced = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    tensors = [part for parts in (found.positions, found.numbers, found.shares) for part in parts]
    memory = sum(part.untyped_storage().nbytes() for part in tensors)
    # The last batches are not joined yet.
    rest = 64 * 3 * 1000
    assert memory + traced - rest <= (48 + 2 * classes) * count
    assert memory >= (28 + 2 * classes) * count
    assert len(tensors) < 3 * (count / 64 / batch + 64) and sys.getsizeof(found.ids) < 20_000


def test_a_sample_more_than_is_wanted_drops_all():
    found = CollectedSamples(10)
    for first in range(0, 12, 4):
        found.add("multiclass", first, "[]", torch.zeros(4, 7), torch.zeros(4, 0))
    assert found.numbers == found.positions == found.ids == []
    rows, why = over_ranks(found, is_main=True)
    assert rows is None and "more than 10 samples" in why


def test_nothing_is_collected_of_nothing():
    rows, why = over_ranks(CollectedSamples(None), is_main=True)
    assert (len(rows), why, rows.kind) == (0, "", "")
    np.testing.assert_array_equal(rows.positions, [])
