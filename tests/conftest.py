"""What the tests of all folders share."""

import pytest
import torch
from accelerate.state import AcceleratorState
from rank_processes import RankProcesses


@pytest.fixture(scope="session")
def rank_processes(tmp_path_factory):
    """Return processes that stand for the ranks of a run; they start when they are first asked for."""
    processes = RankProcesses(tmp_path_factory.mktemp("ranks"))
    yield processes
    processes.stop()


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Reset what Accelerate keeps for the whole process: device and precision."""
    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(autouse=True)
def one_thread():
    """Compute on one thread: toys are slower on several, and much slower on a machine that is shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
