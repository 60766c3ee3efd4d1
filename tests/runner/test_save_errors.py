"""A checkpoint that cannot be written: the ones of before stay, and the message names the file and why."""

import contextlib
import logging
import re
import resource

import pytest
import torch
from catalyst import dl

from assay.callbacks.errors import UsageError
from assay.callbacks.support.atomic_files import save_whole
from assay.runner.saving.checkpoint_files import load_checkpoint, read_index
from assay.runner.saving.checkpoints import Checkpoints
from assay.runner.saving.resume import newest_checkpoint

LIMIT = 100_000  # bytes of a file; that of a checkpoint here is four times as long


class FillDisk(dl.Callback):
    """Has the system refuse long files in one epoch."""

    def __init__(self, epoch):
        super().__init__(order=0)
        self.epoch = epoch
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_epoch_start(self, runner):
        limit = LIMIT if runner.epoch_step == self.epoch else self.before[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, self.before[1]))

    def on_experiment_end(self, runner):
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)

    def on_exception(self, runner):
        self.on_experiment_end(runner)


@contextlib.contextmanager
def full_disk(limit):
    """Have the system refuse files longer than ``limit``; not longer than needed, as it holds for pytest's own too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def run(make_net, make_loader, train, tmp_path):
    def run(on_save_error, epochs=4, full=3, **options):
        extra = {"ballast": torch.zeros(LIMIT)}
        checkpoints = Checkpoints(tmp_path, extra=extra, on_save_error=on_save_error)
        callbacks = [checkpoints, FillDisk(full)]
        return train(make_net(), {"train": make_loader(4)}, epochs=epochs, callbacks=callbacks, **options)

    return run


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_stop_ends_the_run_with_the_file_and_the_reason_and_leaves_the_checkpoints_of_before(run, tmp_path):
    with pytest.raises(OSError, match=re.escape(f"File too large: '{tmp_path}/epoch-0003.pt'")):
        run("stop")
    assert files(tmp_path) == ["epoch-0001.pt", "epoch-0002.pt", "index.json", "last.pt"]
    assert load_checkpoint(tmp_path)["epoch"] == 2
    assert run("stop", full=0, resume=str(tmp_path)).epoch_step == 4


def test_warn_goes_on_and_saves_the_next_epoch(run, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "assay"):
        run("warn")
    file = tmp_path / "epoch-0003.pt"
    assert caplog.messages == [
        f"{file} was not saved: {file} cannot be written: File too large. The run goes on (--on-save-error warn), and "
        "can be resumed from the checkpoints of before."
    ]
    assert files(tmp_path) == ["epoch-0004.pt", "index.json", "last.pt"]
    assert newest_checkpoint(tmp_path) == tmp_path / "epoch-0004.pt"


def test_warn_keeps_the_checkpoints_of_before_where_the_last_one_fails(run, tmp_path):
    run("warn", epochs=3)
    assert files(tmp_path) == ["epoch-0001.pt", "epoch-0002.pt", "index.json", "last.pt"]
    assert {entry["epoch"] for entry in read_index(tmp_path)} == {1, 2}


@pytest.mark.parametrize("limit", [0, 10, 1000, 5000])
def test_a_write_that_fails_at_any_byte_is_one_error_that_names_the_file(tmp_path, limit):
    state = {"weights": torch.zeros(2000), "rest": [torch.zeros(3)] * 5}
    with pytest.raises(OSError, match="File too large") as error, full_disk(limit):
        save_whole(tmp_path / "one.pt", lambda file: torch.save(state, file))
    assert error.value.filename == str(tmp_path / "one.pt")
    assert files(tmp_path) == []


def test_what_a_kill_left_half_written_is_removed_by_the_next_checkpoint(run, tmp_path):
    (tmp_path / ".epoch-0001.pt.123.tmp").write_bytes(b"half")
    run("stop", epochs=1, full=0)
    assert files(tmp_path) == ["epoch-0001.pt", "index.json", "last.pt"]


def test_an_unknown_choice_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"unknown on_save_error 'ignore'\. There is: 'stop', 'warn'"):
        Checkpoints(tmp_path, on_save_error="ignore")
