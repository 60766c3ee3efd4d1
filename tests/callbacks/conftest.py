import kit
import numpy as np
import pytest
import torch
from rank_processes import Ranks


@pytest.fixture(autouse=True)
def chance_is_the_same_in_every_test():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(params=[1, 2], ids=["one_process", "two_processes"])
def ranks(request, rank_processes):
    return Ranks(rank_processes, request.param)


@pytest.fixture(scope="session")
def read_events():
    """Read an event folder: a function from the folder to an accumulator that keeps everything."""

    return kit.read_events
