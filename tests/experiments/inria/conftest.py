"""A small data set, and the same chance in every test."""

import pytest
import torch
from inria_set import write_set


@pytest.fixture(autouse=True)
def chance_is_the_same_in_every_test():
    torch.manual_seed(0)


@pytest.fixture
def root(tmp_path):
    """A folder with six tiles, three of them to validate on, and one without truth; some striped, some tiled."""
    return write_set(tmp_path / "set")
