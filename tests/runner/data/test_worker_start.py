"""Workers that inherit nothing find an experiment that is a file, and say what keeps them from starting."""

import pickle
import sys
import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import UsageError
from assay.runner.data import experiment_files
from assay.runner.data.fetching import Batch, Fetched
from assay.runner.data.sharding import end_workers, shard_loader
from assay.runner.data.worker_start import NotStarted, WorkerStartError, silence_lost_reader
from assay.runner.experiment.catalog import find_experiment
from assay.runner.loop.fault_messages import explain

FILE = """
import torch
from torch.utils.data import Dataset, default_collate
from assay.runner import Experiment
from the_neighbour import VALUE

class Data(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return {"image": torch.tensor([VALUE, float(index)]), "worker": torch.utils.data.get_worker_info() is not None}

def join(items):
    return {**default_collate(items), "joined": True}

class Mine(Experiment):
    def get_loaders(self):
        return {"train": self.make_loader(Data(), collate_fn=join)}
"""


@pytest.fixture
def loader(tmp_path, monkeypatch):
    """Return a loader of an experiment that is a file with a neighbour."""
    (tmp_path / "my exp.py").write_text(FILE)
    (tmp_path / "the_neighbour.py").write_text("VALUE = 7.0")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(experiment_files, "_imported", {})
    yield find_experiment(str(tmp_path / "my exp.py"))(workers=1, device="cpu").get_loaders()["train"]
    for name in ("assay_user_my_exp", "the_neighbour"):
        sys.modules.pop(name, None)


def in_another_process(packed):
    """Unpickle what a worker is handed, in a process that has imported no experiment."""
    sys.modules.pop("assay_user_my_exp")
    sys.modules.pop("the_neighbour")
    experiment_files._imported.clear()
    return pickle.loads(packed)


def test_a_worker_that_inherits_nothing_finds_the_classes_of_the_file(loader):
    loader.multiprocessing_context = "spawn"
    sharded = shard_loader(loader, 0, 1, trains=True)
    sharded.batch_sampler.draw_epoch(0, 1)
    try:
        (batch,) = sharded
    finally:
        end_workers([sharded])
    assert batch["image"].tolist() == [[7, 0], [7, 1], [7, 2], [7, 3]]
    assert batch["worker"].tolist() == [True] * 4
    assert batch["joined"]


def test_what_a_worker_is_handed_brings_the_file_and_its_functions(loader):
    packed = pickle.dumps(Fetched(loader.dataset, loader.collate_fn, loader.worker_init_fn))
    made = in_another_process(packed)
    assert made.__getitems__(Batch([2], 0, 1))["image"].tolist() == [[7, 2]]
    assert made.worker_init is loader.worker_init_fn


def test_an_import_that_fails_in_a_worker_is_told_as_what_it_is(loader, tmp_path):
    packed = pickle.dumps(Fetched(loader.dataset, loader.collate_fn))
    (tmp_path / "the_neighbour.py").unlink()
    made = in_another_process(packed)
    assert isinstance(made, NotStarted)
    with pytest.raises(WorkerStartError) as caught:
        made.__getitems__(Batch([2], 0, 1))
    line = "a loader's worker could not start: ModuleNotFoundError: No module named 'the_neighbour'"
    assert str(caught.value) == line
    assert explain(caught.value) == f"{line}."
    name = f"{WorkerStartError.__module__}.{WorkerStartError.__qualname__}"
    assert str(WorkerStartError(f"Caught WorkerStartError in worker 0.\nTraceback ...\n{name}: {line}")) == line


def test_a_data_set_that_cannot_be_handed_over_is_refused():
    class Local(nn.Module):
        pass

    with pytest.raises(UsageError, match=r"that fails .*Local.*: define them at the top of a file, or leave multiproc"):
        pickle.dumps(Fetched([Local()], None))
    loader = DataLoader([1, 2], 2, num_workers=1, collate_fn=lambda items: items, multiprocessing_context="spawn")
    sharded = shard_loader(loader, 0, 1, trains=True)
    sharded.batch_sampler.draw_epoch(0, 1)
    with pytest.raises(UsageError, match=r"that fails .*lambda"):
        next(iter(sharded))


def test_shared_memory_stays_shared(loader):
    # As with forked workers: what one marks there, the main process reads.
    shared = torch.zeros(3).share_memory_()
    made = pickle.loads(pickle.dumps(Fetched([shared], None)))
    made.items[0][1] = 5
    assert shared.tolist() == [0, 5, 0]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "DataLoader worker (pid 12) exited unexpectedly with exit code 1. Details are lost.",
            "loader worker 12 ended with exit code 1: what it printed says why. --workers 0 reads the data in the run",
        ),
        (
            "DataLoader worker (pid 12) is killed by signal: Killed. ",
            "loader worker 12 was killed (Killed). Usually memory",
        ),
    ],
)
def test_a_worker_that_ends_by_itself_is_not_called_killed(message, expected):
    assert explain(RuntimeError(message)).startswith(expected)


@pytest.mark.parametrize(
    ("error", "in_thread", "is_printed"),
    [
        (ConnectionResetError("reset by peer"), True, False),
        (EOFError(), True, False),
        (ValueError("another"), True, True),
        (ConnectionResetError("reset by peer"), False, True),
    ],
)
def test_a_worker_prints_nothing_of_a_run_that_has_left(monkeypatch, error, in_thread, is_printed):
    printed = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, error, trace: printed.append(error))
    silence_lost_reader()
    hand_over = partial(sys.excepthook, type(error), error, None)  # as multiprocessing does it
    if in_thread:
        thread = threading.Thread(target=hand_over)
        thread.start()
        thread.join()
    else:
        hand_over()
    assert printed == [error] * is_printed
