"""A small data set, and a process that remembers no engine from the test before."""

import pytest
import torch
from accelerate.state import AcceleratorState
from inria_set import write_set


@pytest.fixture(autouse=True)
def fresh_process():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)
    torch.set_num_threads(threads)


@pytest.fixture
def root(tmp_path):
    """A folder with six tiles, three of them to validate on, and one without truth; some striped, some tiled."""
    return write_set(tmp_path / "set")
