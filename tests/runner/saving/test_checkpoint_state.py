"""What a file holds: a run, something else, or a run with a part that is missing or wrong; each in one line."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from assay.runner import UsageError, load_checkpoint
from assay.runner.saving.checkpoint_state import FORMAT


@pytest.fixture
def saved(make_net, make_loader, train, tmp_path):
    """The checkpoint of a run of one epoch, without an index."""
    train(make_net(), {"train": make_loader(4)}, logdir=str(tmp_path / "run"))
    (tmp_path / "run/checkpoints/index.json").unlink()
    return tmp_path / "run/checkpoints/last.pt"


def refused(path):
    with pytest.raises(UsageError) as error:
        load_checkpoint(path)
    said = str(error.value)
    assert str(path) in said
    assert "\n" not in said
    assert "weights_only" not in said
    return said.partition(str(path))[2]


@pytest.mark.parametrize(
    "missing",
    ["model", "optimizer", "scheduler", "epoch", "batch_step", "sample_step", "history", "rng", "callbacks", "loggers"],
)
def test_a_checkpoint_without_a_part_is_refused(saved, missing):
    state = torch.load(saved, weights_only=True)
    del state[missing]
    torch.save(state, saved)
    assert refused(saved) == f" is damaged: it has no {missing}."


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("model", [1], "model must be a dict, got a list"),
        ("model", {"": 3}, "model. must be a dict, got 3"),
        ("model", None, "model must be a dict, got None"),
        ("epoch", "three", "epoch must be a number from 0 on, got 'three'"),
        ("epoch", -1, "epoch must be a number from 0 on, got -1"),
        ("epoch", True, "epoch must be a number from 0 on, got True"),
        ("epoch", 1.5, "epoch must be a number from 0 on, got 1.5"),
        ("history", {"one": {}}, "history must hold numbers of epochs, got 'one'"),
        ("history", {1: 3}, "history[1] must be a dict, got 3"),
        ("history", {1: {"train": 0.5}}, "history[1].train must be a dict, got 0.5"),
        ("ema", {"steps": 3}, "it has no ema.models"),
        ("ema", {"steps": 3, "models": {"": "x"}}, "ema.models. must be a dict, got 'x'"),
        ("ema", 3, "ema must be a dict, got 3"),
        ("scaler", "x", "scaler must be a dict, got 'x'"),
        ("rng", [3], "rng[0] must be a dict, got 3"),
        ("rng", [{}], "it has no rng[0].python"),
        ("callbacks", {"Mine": {}}, "callbacks.Mine must be a list, got a dict"),
        ("unfinished", {"loader": "train"}, "it has no unfinished.loader_rounds"),
    ],
)
def test_a_part_of_a_wrong_type_is_refused(saved, place, value, said):
    torch.save(torch.load(saved, weights_only=True) | {place: value}, saved)
    assert refused(saved) == f" is damaged: {said}."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            nn.Linear(2, 2).state_dict(),
            "it holds the weights of a model alone; to start from its weights, load them in",
        ),
        ({"model_state_dict": {}, "epoch": 3}, "it is one of Catalyst's, with 'epoch', 'model_state_dict'; to start"),
        (
            {"state_dict": {}, "callbacks": {}},
            "it is one of another trainer's, with 'callbacks', 'state_dict'; to start",
        ),
        ({"format": "assay checkpoint 2"}, f"it has no entry format={FORMAT!r}"),
        ([1, 2], "it holds a list"),
    ],
)
def test_a_file_of_another_program_is_called_what_it_is(tmp_path, content, said):
    torch.save(content, tmp_path / "other.pt")
    assert refused(tmp_path / "other.pt").startswith(f" is not one of assay's: {said}")


class Mine:
    pass


def test_a_type_that_is_not_loaded_is_named_and_not_called_damage(saved):
    torch.save(torch.load(saved, weights_only=True) | {"note": Mine()}, saved)
    said = refused(saved)
    assert said.startswith(" is not one of assay's as it is now: it holds 'test_checkpoint_state.Mine', which")
    assert "cut off" not in said


def test_a_file_that_is_cut_off_is_damaged_whatever_it_holds(saved):
    torch.save(torch.load(saved, weights_only=True) | {"note": Mine()}, saved)
    saved.write_bytes(saved.read_bytes()[:-500])
    assert " cannot be read; it is cut off or not one of assay's: " in refused(saved)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_does_not_get_torchs_advice(tmp_path, protocol):
    (tmp_path / "other.pt").write_bytes(pickle.dumps({"a": Mine()}, protocol=protocol))
    assert " cannot be read; it is cut off or not one of assay's: " in refused(tmp_path / "other.pt")


def test_a_checkpoint_of_before_with_numpy_in_it_is_loaded(saved):
    value = {"a": np.float64(0.5), "b": np.arange(3, dtype=np.int16), "c": np.bool_(True), "d": np.array(["x"])}
    torch.save(torch.load(saved, weights_only=True) | {"note": value}, saved)
    assert load_checkpoint(saved)["note"]["a"] == 0.5
    np.testing.assert_array_equal(load_checkpoint(saved)["note"]["b"], np.arange(3))
