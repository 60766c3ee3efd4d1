"""Flags against torch.isfinite, tensor by tensor."""

import math

import pytest
import torch

from assay.callbacks.measures.non_finite import flag_gradients, flag_samples, flag_values

BAD = [math.nan, math.inf, -math.inf]
FLAGS = [flag_values, flag_gradients]


def tensors(dtype):
    noise = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=noise).to(dtype) for shape in [(), (5,), (3, 4), (2, 3, 4, 5)]]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_flags_are_those_of_isfinite_in_every_type(flags, bad, dtype):
    for broken in range(4):
        parts = tensors(dtype)
        parts[broken].view(-1)[-1] = bad
        expected = [float(not torch.isfinite(part).all()) for part in parts]
        assert flags(parts).tolist() == expected
        assert sum(expected) == 1
    assert flags(tensors(dtype)).tolist() == [0.0] * 4


@pytest.mark.parametrize("flags", FLAGS)
def test_empty_tensors_and_mixed_types_are_taken(flags):
    parts = [torch.zeros(0, 3), torch.tensor([math.nan], dtype=torch.float64), torch.ones(2, dtype=torch.bfloat16)]
    assert flags(parts).tolist() == [0.0, 1.0, 0.0]
    assert flags(parts).dtype == torch.float32


def test_the_largest_finite_value_of_an_output_is_finite():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        largest = torch.finfo(dtype).max
        assert flag_values([torch.tensor([largest, -largest, largest], dtype=dtype)]).tolist() == [0.0]


def test_a_gradient_whose_squares_overflow_counts_as_infinite():
    for size in (1, 2):
        below, above = torch.full((size,), 1e19), torch.full((size,), 2e19)
        for parts in ([below, above], [below.double(), above.double()], [below, above.double()]):
            assert flag_gradients(parts).tolist() == [0.0, 1.0]


def test_a_float16_gradient_of_large_norm_is_finite():
    assert flag_gradients([torch.full((1000,), 60000.0, dtype=torch.float16)]).tolist() == [0.0]


def test_sparse_gradients_are_taken():
    for value, flag in ((1.0, 0.0), (math.nan, 1.0)):
        sparse = torch.sparse_coo_tensor([[0, 2]], [1.0, value], (4,), check_invariants=True)
        assert flag_gradients([sparse]).tolist() == [flag]


def test_samples_are_told_apart():
    part = torch.zeros(4, 2, 3)
    part[1, 0, 2], part[3, 1, 1] = math.nan, math.inf
    assert flag_samples(part).tolist() == [False, True, False, True]


@pytest.mark.parametrize("flags", FLAGS)
def test_nothing_is_read(flags):
    parts = [torch.ones(3, 2, device="meta"), torch.ones((), device="meta", dtype=torch.float16)]
    assert flags(parts).shape == (2,)
