import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from rank_processes import Ranks
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


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

    def read(folder):
        assert Path(folder).is_dir(), f"no event folder {folder}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0}).Reload()

    return read
