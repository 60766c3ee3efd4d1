"""What is explained of a regression is its output, as a plain loop sums it."""

import pytest
import torch

from assay.callbacks import UsageError
from assay.callbacks.measures.explained_score import explained_number


def slow(sample, explain):
    """The sum of one output of a sample [D, ...], or of all."""
    part = sample[explain] if isinstance(explain, int) else sample
    return sum(part.reshape(-1).tolist())


@pytest.mark.parametrize("explain", ["predicted", "true", 0, 1])
@pytest.mark.parametrize("shape", [(5, 2), (5, 3, 4, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_output_itself_is_explained(shape, explain, dtype):
    output = torch.randn(shape).to(dtype)
    found = explained_number(output, explain)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([slow(sample.double(), explain) for sample in output], abs=1e-4)


@pytest.mark.parametrize("explain", ["predicted", 0])
@pytest.mark.parametrize("shape", [(5,), (5, 4, 6)])
def test_of_one_output_it_is_that_one(shape, explain):
    output = torch.randn(shape)
    assert explained_number(output, explain).tolist() == pytest.approx(
        [slow(sample.double(), "predicted") for sample in output], abs=1e-5
    )


@pytest.mark.parametrize(("shape", "last"), [((5,), 0), ((5, 2), 1), ((5, 4, 6), 0), ((5, 3, 4, 6), 2)])
def test_an_output_that_is_not_there_is_an_error(shape, last):
    with pytest.raises(UsageError, match=f"explain must be an output from 0 to {last}, got {last + 1}"):
        explained_number(torch.zeros(shape), last + 1)
