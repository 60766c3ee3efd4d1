"""Settings that differ: refused, or warned of, by name with both values."""

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.utils.data import DataLoader
from toy_experiment import Toy

from assay.runner import DictRunner, UsageError, load_checkpoint, train
from assay.runner.experiment.experiment_settings import check_fields, experiment_settings
from assay.runner.loop.state import settings as module
from assay.runner.loop.state.settings import check_same_on_all, compare_with_checkpoint


@pytest.fixture
def ranks(monkeypatch):
    """Have the settings compared with those of other ranks, as they would come from them."""

    def others(*those):
        monkeypatch.setattr(
            module, "gather_objects", lambda mine: [mine, *({k: repr(v) for k, v in it.items()} for it in those)]
        )

    return others


def test_ranks_that_agree_go_on(ranks):
    ranks({"lr": 0.1, "clip": None}, {"clip": None, "lr": 0.1})
    check_same_on_all({"lr": 0.1, "clip": None})


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([{"lr": 0.2, "size": 4}], "lr is 0.1 on rank 0, 0.2 on rank 1"),
        ([{"lr": 0.1, "size": 4}, {"lr": 0.1, "size": 8}], "size is 4 on rank 0, 1, 8 on rank 2"),
        ([{"lr": 0.1}], "size is 4 on rank 0, nothing on rank 1"),
        ([{"lr": 0.1, "size": 4, "n": 1}], "n is nothing on rank 0, 1 on rank 1"),
        ([{"lr": 0.1, "size": "4"}], "size is 4 on rank 0, '4' on rank 1"),
    ],
)
def test_ranks_that_differ_are_refused_by_name_and_value(ranks, others, said):
    ranks(*others)
    with pytest.raises(UsageError, match=f"^the processes of a run must agree, and {said}: start all alike"):
        check_same_on_all({"lr": 0.1, "size": 4})


def test_an_experiment_may_differ_in_what_belongs_to_a_machine_alone():
    mine = experiment_settings("toy", Toy())
    assert mine == experiment_settings("toy", Toy(device="cpu", workers=3, threads=2, data_dir="elsewhere"))
    for other in (Toy(lr=0.5), Toy(batch_size=3), Toy(seed=7), Toy(epochs=9)):
        assert mine != experiment_settings("toy", other)
    assert mine["the checksum of its file"] is not None


# -- with a checkpoint ------------------------------------------------------------------------------------------------


def go(folder, items, *, epochs=1, lr=0.1, batch_size=4, resume=False, clip=None, seed=42, kind=DictRunner):
    torch.manual_seed(0)
    model = nn.Sequential()
    model.linear = nn.Linear(4, 3)
    model.forward = lambda image: {"logits": model.linear(image.float())}
    runner = kind(clip_grad_norm=clip)
    runner.train(
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr),
        loaders={"train": DataLoader(items, batch_size)},
        num_epochs=epochs,
        logdir=str(folder),
        resume=str(folder) if resume else None,
        seed=seed,
        cpu=True,
    )
    return runner


@pytest.mark.parametrize(
    ("changed", "warned"),
    [
        ({}, []),
        ({"lr": np.float64(0.1)}, []),
        (
            {"lr": 0.5},
            ["lr of the optimizer was 0.1 when the checkpoint was made, and is 0.5 now; the checkpoint's holds on."],
        ),
        (
            {"clip": 2.0},
            ["clip_grad_norm was None when the checkpoint was made, and is 2.0 now; it holds from now on."],
        ),
        ({"seed": 7}, ["seed was 42 when the checkpoint was made, and is 7 now; it holds from now on."]),
        (
            {"batch_size": 8},
            [
                "batch_size of loader 'train' was 4 when the checkpoint was made, and is 8 now; it holds from now on.",
                "the number of batches of loader 'train' was 2 when the checkpoint was made, and is 1 now; it holds "
                "from now on.",
            ],
        ),
    ],
)
def test_a_run_that_goes_on_warns_of_each_setting_that_is_another(make_items, tmp_path, caplog, changed, warned):
    items = make_items(8)
    go(tmp_path / "run", items)
    caplog.clear()
    runner = go(tmp_path / "run", items, epochs=2, resume=True, **changed)
    assert [record.getMessage() for record in caplog.records] == warned
    assert runner.optimizer.param_groups[0]["lr"] == 0.1


def test_other_data_is_noticed(make_items, tmp_path, caplog):
    go(tmp_path / "run", make_items(8))
    go(tmp_path / "run", make_items(7), epochs=2, resume=True)
    assert "the number of samples of loader 'train' was 8 when the checkpoint was made, and is 7 now" in caplog.text


@pytest.mark.parametrize("name", ["accumulate_steps", "seed", "loaders", "the number of samples of loader 'train'"])
def test_within_an_epoch_what_decides_about_its_batches_is_refused(name):
    with pytest.raises(UsageError, match=f"^{name} was 1 when .* and is 2 now: the run cannot go on within its epoch"):
        compare_with_checkpoint({name: 1}, {name: 2}, within_epoch=True)
    assert compare_with_checkpoint({"clip_grad_norm": 1}, {"clip_grad_norm": 2}, within_epoch=True)


def test_a_checkpoint_of_before_has_nothing_to_compare():
    assert compare_with_checkpoint({}, {"seed": 1}, within_epoch=True) == []


@pytest.mark.parametrize(
    ("before", "now", "refused"),
    [
        ({"lr": 0.1}, {"lr": 0.2}, r"run/config.yaml says lr: 0.2, and its checkpoint was made with 0.1: put it back"),
        ({"epochs": 3}, {"epochs": 2}, "says epochs: 2, and its checkpoint was made with 3"),
        ({"epochs": 3}, {"epochs": 4, "scheduler": "one-cycle"}, "cannot be raised with the one-cycle schedule"),
        ({"monitor": ["a:min"]}, {"monitor": ["a:max"]}, r"says monitor: \['a:max'\], and"),
        ({"epochs": 3}, {"epochs": 4}, None),
        ({"workers": 0, "device": "cpu"}, {"workers": 2, "device": "auto"}, None),
        ({"gone": 1}, {"new": 2}, None),
    ],
)
def test_an_edit_of_the_fields_is_compared_with_the_checkpoint(before, now, refused, caplog):
    if refused is None:
        check_fields("run", before, now)
    else:
        with pytest.raises(UsageError, match=refused):
            check_fields("run", before, now)
    assert caplog.messages == []


@pytest.mark.parametrize("name", ["log_every_steps", "a_field_of_its_own"])
def test_an_edit_of_what_is_shown_or_is_the_experiments_own_is_taken_with_a_warning(caplog, name):
    check_fields("run", {name: 10}, {name: 5})
    assert caplog.messages == [f"{name} is 5 from now on; until the checkpoint it was 10."]


def test_an_edited_config_is_refused_and_leaves_the_run_as_it_was(tmp_path):
    run = train(Toy(epochs=1), name="toy", run_dir=tmp_path / "run")
    before = (run / "config.yaml").read_text()
    with pytest.raises(UsageError, match=r"run/config\.yaml says lr: 0\.5, and its checkpoint was made with"):
        train(Toy(epochs=2, lr=0.5), name="toy", resume=run)
    assert (run / "config.yaml").read_text() == before
    assert yaml.safe_load(before)["epochs"] == load_checkpoint(run)["epoch"] == 1


def test_another_folder_of_data_is_noticed(caplog):
    check_fields("run", {"data_dir": "a"}, {"data_dir": "b"})
    assert caplog.messages == ["data_dir is 'b' now; until the checkpoint it was 'a': both must hold the same data."]


class Clipped(DictRunner):
    """Clips by a limit of its own, whatever it is given."""

    @property
    def clip_grad_norm(self):
        return 0.5

    @clip_grad_norm.setter
    def clip_grad_norm(self, given):
        assert given is None


def test_a_setting_may_be_a_property_of_a_subclass(make_items, tmp_path):
    assert go(tmp_path, make_items(4), kind=Clipped).settings_["clip_grad_norm"] == 0.5
