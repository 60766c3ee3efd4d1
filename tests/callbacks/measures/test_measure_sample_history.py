"""The numbers of single samples against a loop in float64."""

import math

import numpy as np
import pytest
import torch

from assay.callbacks.measures.sample_history import COLUMNS, sample_numbers, two_logits


def by_hand(logits, target):
    """Return the numbers of one sample by their definitions."""
    logits = [float(value) for value in logits]
    if not all(map(math.isfinite, logits)):
        return [target, *[math.nan] * 5] if 0 <= target < len(logits) else [math.nan] * 6
    largest = max(logits)
    total = sum(math.exp(value - largest) for value in logits)
    shares = [math.exp(value - largest) / total for value in logits]
    prediction = logits.index(largest)
    if not 0 <= target < len(logits):
        return [math.nan, prediction, shares[prediction], *[math.nan] * 3]
    others = [value for number, value in enumerate(logits) if number != target]
    wanted = [float(number == target) for number in range(len(logits))]
    distance = math.sqrt(sum((share - one) ** 2 for share, one in zip(shares, wanted, strict=True)))
    return [target, prediction, shares[prediction], shares[target], logits[target] - max(others), distance]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("classes", [2, 3, 250])
def test_numbers_equal_their_definitions(classes, dtype):
    draw = torch.Generator().manual_seed(classes)
    logits = (torch.randn(40, classes, generator=draw) * 6).to(dtype)
    target = torch.randint(0, classes, (40,), generator=draw)
    logits[3, 1], logits[4, 0] = math.nan, -math.inf
    target[5], target[6] = -(2**62), classes
    found = sample_numbers(logits, target)
    assert found.shape == (40, len(COLUMNS))
    assert found.dtype == torch.float32
    expected = [by_hand(row, int(of)) for row, of in zip(logits, target, strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, rtol=2e-5, atol=2e-6)


def test_equal_logits_mean_the_first_class():
    assert sample_numbers(torch.zeros(1, 4), torch.tensor([2]))[0, 1] == 0


def test_a_sure_prediction_is_that_of_the_larger_logit():
    """Both probabilities are rounded to 1 and 0, or to equal ones."""
    found = sample_numbers(torch.tensor([[1.0, 1.0 + 1e-7, 0.0], [0.0, 900.0, -900.0]]), torch.tensor([0, 1]))
    assert found[:, 1].tolist() == [1, 1]
    assert found[1, 4] == 900


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_one_logit_has_the_probability_of_its_sigmoid(shape):
    logit = torch.linspace(-3, 3, 6).reshape(shape)
    target = torch.tensor([0, 1, 0, 1, 0, 1])
    found = sample_numbers(two_logits(logit), target)
    yes = logit.reshape(6).double().sigmoid()
    np.testing.assert_allclose(found[:, 3], torch.where(target == 1, yes, 1 - yes), rtol=1e-6)
    np.testing.assert_allclose(found[:, 4], torch.where(target == 1, 1, -1) * logit.reshape(6), rtol=1e-6)


def test_nothing_is_read_from_the_device():
    found = sample_numbers(torch.zeros(4, 3, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta"))
    assert found.shape == (4, 6)
