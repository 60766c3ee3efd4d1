"""Which run goes on, and from which checkpoint."""

import json
import logging
import os
import pickle
import shutil

import pytest
import torch
from kit import Trap

from assay.callbacks.errors import UsageError
from assay.runner.saving.checkpoint_files import FORMAT, load_checkpoint
from assay.runner.saving.checkpoints import Checkpoints
from assay.runner.saving.resume import decided_by_main_rank, newest_checkpoint, restarted_run
from assay.runner.saving.run_folder import launch_id


@pytest.fixture
def run(make_net, make_loader, train, tmp_path):
    """A run folder with checkpoints of the epochs 2 and 3, the last two."""
    train(make_net(), {"train": make_loader(4)}, epochs=3, callbacks=[Checkpoints(tmp_path / "run" / "checkpoints")])
    return tmp_path / "run"


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def remove(path):
    path.unlink()
    path.with_name("last.pt").unlink()


def put_foreign_objects(path):
    torch.save({"format": FORMAT, "model": Trap(path.with_name("executed"))}, path)


def put_foreign_pickle(path):
    path.write_bytes(pickle.dumps(Trap(path.with_name("executed"))))


@pytest.mark.parametrize("indexed", [True, False], ids=["with index", "without"])
@pytest.mark.parametrize("damage", [truncate, flip_a_bit, remove, put_foreign_objects, put_foreign_pickle])
def test_where_the_newest_is_damaged_the_one_before_is_taken_with_one_warning(run, caplog, damage, indexed):
    newest, before = (run / "checkpoints" / f"epoch-000{epoch}.pt" for epoch in (3, 2))
    damage(newest)
    if not indexed:
        (run / "checkpoints" / "index.json").unlink()
    with caplog.at_level(logging.WARNING, "assay"):
        assert newest_checkpoint(run) == before
    named = [message for message in caplog.messages if message.startswith(f"checkpoint {newest} ")]
    if indexed or damage is not remove:  # without both, nothing tells that there was one
        assert len(named) == 1
        assert named[0].endswith(f" Going on from {before}, of epoch 2.")
    assert not (run / "checkpoints" / "executed").exists()


def test_the_newest_is_taken_without_a_word_where_it_is_whole(run, caplog):
    for start in (run, run / "checkpoints", run / "checkpoints" / "epoch-0003.pt"):
        assert newest_checkpoint(start) == run / "checkpoints" / "epoch-0003.pt"
    assert caplog.messages == []


def test_another_name_of_the_missing_epoch_serves(run, caplog):
    (run / "checkpoints" / "epoch-0003.pt").unlink()
    assert newest_checkpoint(run) == run / "checkpoints" / "last.pt"
    assert len(caplog.messages) == 1


def test_where_all_are_damaged_the_newest_is_named(run):
    for path in (run / "checkpoints").glob("epoch-*.pt"):
        truncate(path)
    with pytest.raises(UsageError, match=r"epoch-0003\.pt was changed or cut off"):
        newest_checkpoint(run)


def test_a_checkpoint_that_is_asked_for_by_name_is_the_only_one_that_will_do(run):
    truncate(run / "checkpoints" / "epoch-0003.pt")
    with pytest.raises(UsageError, match=r"epoch-0003\.pt was changed or cut off"):
        newest_checkpoint(run / "checkpoints" / "epoch-0003.pt")


def test_where_there_is_none_it_says_so(tmp_path):
    with pytest.raises(UsageError, match=r"holds no checkpoint 'last\.pt'"):
        newest_checkpoint(tmp_path)


def test_a_run_goes_on_from_the_one_before_with_the_bits_of_a_straight_run(run, make_net, make_loader, train, tmp_path):
    def go_on(folder, resume):
        net = make_net()
        train(
            net,
            {"train": make_loader(4)},
            epochs=4,
            callbacks=[Checkpoints(folder / "checkpoints")],
            resume=str(resume),
        )
        return net.state_dict()

    shutil.copytree(run, tmp_path / "whole")
    truncate(run / "checkpoints" / "epoch-0003.pt")
    damaged, whole = go_on(run, run), go_on(tmp_path / "whole", tmp_path / "whole")
    assert all(torch.equal(damaged[name], whole[name]) for name in whole)
    assert load_checkpoint(run)["epoch"] == 4
    assert newest_checkpoint(run) == run / "checkpoints" / "epoch-0004.pt"


def test_wrong_use_on_the_main_rank_is_raised():
    def decide():
        raise UsageError("no")

    with pytest.raises(UsageError, match="no"):
        decided_by_main_rank(decide)
    assert decided_by_main_rank(lambda: 3) == 3


# -- elastic restarts -------------------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Folders of runs by their launch; the process is one that torchrun, of launch b, has restarted."""
    for name, launch in (("1", "a"), ("2", "b"), ("3", "a"), ("4", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "environment.json").write_text(json.dumps({"launch": launch}))
    (tmp_path / "5").mkdir()
    (tmp_path / "6").mkdir()
    (tmp_path / "6" / "environment.json").write_text("{")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "b")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    return tmp_path


def test_a_restarted_run_is_found_by_its_launch(runs, monkeypatch):
    assert restarted_run(None, runs) == runs / "2"
    assert restarted_run(runs / "2", runs) == runs / "2"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "c")
    assert restarted_run(None, runs) is None


@pytest.mark.parametrize("folder", ["1", "4", "5", "6", "nowhere"])
def test_a_folder_of_another_launch_is_not_gone_on_with(runs, folder):
    assert restarted_run(runs / folder, runs) is None


@pytest.mark.parametrize("count", [None, "0"])
def test_the_first_start_goes_on_with_nothing(runs, monkeypatch, count):
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")
    if count is not None:
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", count)
    assert restarted_run(None, runs) is None


def test_torchruns_default_name_is_told_apart_by_the_process_that_launches(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert launch_id().endswith(f":{os.getppid()}")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert launch_id() is None
