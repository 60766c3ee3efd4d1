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
    tensors = [part for part in tensors if isinstance(part, torch.Tensor)]
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


def test_numbers_that_are_made_of_many_batches_are_those_of_each():
    draw, expected, calls = torch.Generator().manual_seed(0), [], []

    def make(kind, logits, target, losses=None):
        calls.append(len(logits))
        shared = target if target.ndim == 2 else torch.nn.functional.one_hot(target, 3).float()
        lost = torch.full((len(logits),), torch.nan) if losses is None else losses
        return torch.cat([logits, shared, lost[:, None]], dim=1), logits.softmax(dim=1)

    found, first = CollectedSamples(None), 0
    for number in range(300):
        size = 1 + number % 3
        logits, losses = torch.randn(size, 3, generator=draw), torch.rand(size, generator=draw)
        # Mixup in some steps, and a criterion that has no losses of samples at times.
        mixed = torch.rand(size, 3, generator=draw)
        target = mixed if number // 100 == 1 else torch.randint(0, 3, (size,), generator=draw)
        parts = [logits, target, losses] if number < 250 else [logits, target]
        expected.append(make("multiclass", *parts)[0])
        found.add_logits("multiclass", first, kept_ids(range(first, first + size)), parts, make)
        first += size
    calls.clear()
    found.settle(make)
    rows, _ = over_ranks(found, is_main=True)
    np.testing.assert_array_equal(rows.numbers, torch.cat(expected).numpy())
    assert rows.positions.tolist() == [*map(int, rows.ids)] == [*range(first)]
    assert len(calls) <= 1


def test_batches_that_wait_have_their_losses_by_the_criterion_of_their_time():
    found, made = CollectedSamples(None), []

    def make(kind, logits, target):
        made.append((found.criterion, len(logits)))
        return logits.new_zeros(len(logits), 7), logits.new_zeros(len(logits), 0)

    for number, smoothing in enumerate((0.0, 0.0, 0.1, 0.1, 0.1, None, 0.0)):
        found.use(None if smoothing is None else ("mean", -100, smoothing), make)
        found.add_logits("multiclass", 2 * number, kept_ids(["a", "b"]), [torch.zeros(2, 3), torch.zeros(2)], make)
    found.settle(make)
    assert made == [(("mean", -100, 0.0), 4), (("mean", -100, 0.1), 6), (None, 2), (("mean", -100, 0.0), 2)]
    assert len(over_ranks(found, is_main=True)[0]) == 14


def test_logits_of_many_classes_do_not_wait_for_many_batches():
    found, waited = CollectedSamples(None), []

    def make(kind, logits, target):
        return torch.zeros(len(logits), 7), torch.zeros(len(logits), 0)

    for first in range(0, 100, 10):
        found.add_logits("multiclass", first, "[]", [torch.zeros(10, 100_000), torch.zeros(10)], make)
        waited.append(sum(of[0].numel() for of in found.waiting))
    assert max(waited) < 1 << 22 and max(waited) > 0
