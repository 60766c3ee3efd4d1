import pytest
import torch

from assay.callbacks.measures.embeddings import SampleChoice, pool, position_hash, shrink, take


def chosen(positions, count, batch_size):
    choice = SampleChoice(count)
    for start in range(0, len(positions), batch_size):
        batch = positions[start : start + batch_size]
        for index in choice.choose(batch):
            choice.put(batch[index], f"sample {batch[index]}")
    return choice.kept


@pytest.mark.parametrize("count", [1, 10, 99, 1000])
@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_the_choice_is_the_samples_of_the_smallest_hashes_however_they_come(count, batch_size):
    positions = list(range(500))
    expected = set(sorted(positions, key=position_hash)[:count])
    for order in (positions, positions[::-1], positions[::2] + positions[1::2]):
        kept = chosen(order, count, batch_size)
        assert kept == {position: f"sample {position}" for position in expected}


def test_the_choice_of_all_is_among_the_choices_of_parts():
    whole = chosen(range(200), 20, 8)
    parts = {**chosen(range(0, 200, 2), 20, 8), **chosen(range(1, 200, 2), 20, 8)}
    assert whole.keys() <= parts.keys()


def test_the_choice_is_spread_evenly_over_the_loader():
    kept = chosen(range(100_000), 1000, 100)
    tenths = [sum(low <= position < low + 10_000 for position in kept) for low in range(0, 100_000, 10_000)]
    assert all(60 < count < 140 for count in tenths)  # 100 each, give or take four standard deviations


def test_hashes_of_positions_differ():
    assert len({position_hash(position) for position in range(100_000)}) == 100_000


def test_a_sample_that_has_lost_its_place_is_not_kept():
    choice = SampleChoice(1)
    positions = sorted(range(50), key=position_hash)
    assert choice.choose([positions[1]]) == [0]
    assert choice.choose([positions[2], positions[0]]) == [1]
    choice.put(positions[1], "late")
    assert choice.kept == {positions[0]: None}


def test_rows_are_those_of_an_index():
    part = torch.rand(6, 3, requires_grad=True)
    assert torch.equal(take(part, [1, 4]), part[[1, 4]])
    assert torch.equal(take(part, list(range(6))), part)
    assert not take(part, [0]).requires_grad


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6), (4, 5, 2, 3)])
def test_vectors_are_means_over_what_comes_after_their_axis(shape):
    vectors = torch.rand(shape, dtype=torch.bfloat16)
    expected = vectors.double()
    while expected.ndim > 2:
        expected = expected.mean(dim=-1)
    assert pool(vectors).dtype == torch.float32
    assert torch.allclose(pool(vectors).double(), expected, atol=1e-6)


def test_images_are_averaged_down_to_the_size():
    images = torch.rand(2, 3, 128, 64)
    expected = images.reshape(2, 3, 64, 2, 32, 2).mean(dim=(3, 5))
    assert torch.allclose(shrink(images, 64), expected, atol=1e-6)


def test_integers_stay_uint8_and_true_is_white():
    images = torch.randint(0, 256, (2, 128, 128), dtype=torch.uint8)
    expected = images.double().reshape(2, 1, 64, 2, 64, 2).mean(dim=(3, 5))
    assert shrink(images, 64).dtype == torch.uint8
    assert (shrink(images, 64).double() - expected).abs().max() <= 0.51
    assert shrink(torch.ones(1, 1, 100, 100, dtype=torch.bool), 64).unique().tolist() == [255]


def test_small_and_lopsided_images_are_kept_as_they_are_or_never_vanish():
    small = torch.rand(1, 3, 8, 9)
    assert shrink(small, 64) is small
    assert shrink(torch.rand(1, 1, 1, 1000), 64).shape == (1, 1, 1, 64)


def test_nothing_reads_the_device():
    images = torch.rand(4, 3, 90, 80, device="meta")
    assert shrink(take(images, [0, 2]), 64).shape == (2, 3, 64, 57)
    assert pool(take(images, [0, 2])).shape == (2, 3)


@pytest.mark.parametrize(("dtype", "factor"), [(torch.uint16, 257), (torch.int64, 1), (torch.int16, 1)])
def test_images_of_other_integers_are_shrunk_to_the_same_bytes(dtype, factor):
    levels = torch.randint(0, 256, (2, 1, 8, 8))
    expected = shrink(levels.to(torch.uint8), 4)
    assert torch.equal(shrink((levels * factor).to(dtype), 4), expected)
