"""What the tests of all folders share.

Nothing heavy is imported here, so that all of it comes within the collection.
"""

import gc
import traceback
from functools import cache
from types import SimpleNamespace

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_collection():
    """Collect without looking for garbage, and leave what was imported out of later searches.

    Imports and tests are a million objects that stay: going through them takes a third of the collection, and a tenth
    of the tests.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


def pytest_unconfigure():
    gc.unfreeze()  # some libraries warn at exit of objects that are never collected


@pytest.fixture(scope="session")
def rank_processes(tmp_path_factory):
    """Return processes that stand for the ranks of a run; they start when they are first asked for."""
    from rank_processes import RankProcesses

    processes = RankProcesses(tmp_path_factory.mktemp("ranks"))
    yield processes
    processes.stop()


@pytest.fixture(autouse=True)
def fresh_accelerate():
    """Reset what Accelerate keeps for the whole process: device and precision."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)
    yield
    AcceleratorState._reset_state(True)


@pytest.fixture(scope="session", autouse=True)
def quick_libraries():
    """Spare what libraries do in each small run and no test looks at; together a tenth of the tests.

    PyTorch keeps the whole stack, as text, of each seed for each kind of accelerator that is not initialized;
    TensorBoard computes checksums in Python; accelerate looks for the same packages on the disk in each run.
    """
    import torch
    from accelerate.utils import imports
    from crc32c import crc32c
    from tensorboard.compat.tensorflow_stub import pywrap_tensorflow

    no_stacks = SimpleNamespace(**{**vars(traceback), "format_stack": lambda *_: []})
    with pytest.MonkeyPatch.context() as patch:
        for accelerator in (torch.cuda, torch.mtia, torch.xpu):
            patch.setattr(accelerator, "traceback", no_stacks)
        patch.setattr(imports, "_is_package_available", cache(imports._is_package_available))
        patch.setattr(pywrap_tensorflow, "crc32c", crc32c)
        yield


@pytest.fixture(autouse=True)
def one_thread():
    """Compute on one thread: toys are slower on several, and much slower on a machine that is shared."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
