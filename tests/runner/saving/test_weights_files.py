"""Weights are read from any file that holds them, and nothing in it is executed."""

import dataclasses

import pytest
import safetensors.torch
import torch
from kit import Trap
from torch import nn
from toy_experiment import Toy

from assay.runner import UsageError, load_checkpoint, train
from assay.runner.saving.weights_files import read_weights


@pytest.fixture(scope="module")
def state():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).state_dict()


WRAPPERS = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
    "model": lambda state: {"model": state, "optimizer": {}},
    "catalyst": lambda state: {"model_state_dict": state, "criterion_state_dict": {}},
    "nested": lambda state: {"model": {"state_dict": state}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_weights_are_found_in_what_trainers_write(tmp_path, state, wrapper, zipped):
    path = tmp_path / "weights.pth"
    torch.save(WRAPPERS[wrapper](state), path, _use_new_zipfile_serialization=zipped)
    found = read_weights(path)
    assert found.source == str(path) and list(found.tensors) == list(state)
    assert all(torch.equal(found.tensors[name], value) for name, value in state.items())


@pytest.mark.parametrize("name", ["state_dict_ema", "model_ema", "ema"])
def test_a_moving_average_is_taken_before_what_it_averages(tmp_path, state, name):
    behind = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"state_dict": behind, name: state, "epoch": 3}, tmp_path / "last.pth")
    found = read_weights(tmp_path / "last.pth")
    assert all(torch.equal(found.tensors[key], value) for key, value in state.items())
    assert found.source.endswith(f"({name!r}, moving average)")


def test_several_models_have_their_names_before_those_of_weights(tmp_path, state):
    torch.save({"encoder": state, "head": {"weight": torch.ones(2)}}, tmp_path / "best.pth")
    names = list(read_weights(tmp_path / "best.pth").tensors)
    assert names == [*(f"encoder.{name}" for name in state), "head.weight"]


def test_safetensors_are_read(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    found = read_weights(str(tmp_path / "model.safetensors")).tensors
    assert found.keys() == state.keys() and all(torch.equal(found[name], value) for name, value in state.items())


@pytest.mark.parametrize("average", [None, 0.5])
def test_of_a_run_it_is_the_best_epoch_and_its_average(tmp_path, average):
    run = train(Toy(epochs=3, ema_decay=average, lr=0.5, scheduler="none"), name="toy", run_dir=tmp_path / "run")
    best = load_checkpoint(run, "best")
    expected = (best["model"] if average is None else best["ema"]["models"])[""]
    for source in (run, run / "checkpoints", run / "checkpoints" / "best.pt"):
        found = read_weights(source)
        assert all(torch.equal(found.tensors[name], value) for name, value in expected.items())
        assert found.source.endswith(f"(epoch {best['epoch']}{'' if average is None else ', moving average'})")


def test_of_a_run_without_a_best_epoch_it_is_the_last(tmp_path):
    run = train(Toy(epochs=1, limit_batches=1), name="toy", run_dir=tmp_path / "run")
    for path in (run / "checkpoints").glob("best*"):
        path.unlink()
    index = run / "checkpoints" / "index.json"
    index.unlink()
    assert "last.pt (epoch 1)" in read_weights(run).source or "epoch-0001.pt (epoch 1)" in read_weights(run).source


def damaged(path, state):
    torch.save(state, path)
    content = bytearray(path.read_bytes())
    content[content.index(b"data/0") + 200] ^= 1
    path.write_bytes(content)


def cut_off(path, state):
    torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-200])


BROKEN = {
    "damaged": (damaged, r"cannot be read; it is cut off, changed, or no file of weights: "),
    "cut off": (cut_off, r"cannot be read; it is cut off, changed, or no file of weights: "),
    "text": (lambda path, state: path.write_text("hello"), r"cannot be read; it is cut off, changed, or no file of "),
    "empty": (lambda path, state: path.touch(), r"cannot be read; it is cut off, changed, or no file of weights: "),
    "numbers": (lambda path, state: torch.save({"epoch": 1, "loss": 0.5}, path),
                r"holds no weights, but a dict of 'epoch', 'loss'\."),
    "nothing": (lambda path, state: torch.save({}, path), r"holds no weights, but an empty dict\."),
    "tensor": (lambda path, state: torch.save(torch.ones(2), path), r"holds no weights, but a Tensor\."),
    "model": (lambda path, state: torch.save(nn.Linear(2, 2), path),
              r"holds .*torch\.nn\.modules\.linear\.Linear.*, which could run code, and is not loaded: "),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_holds_no_weights_is_refused_in_one_line(tmp_path, state, kind):
    make, message = BROKEN[kind]
    make(tmp_path / "x.pth", state)
    with pytest.raises(UsageError, match=message) as error:
        read_weights(tmp_path / "x.pth")
    assert str(tmp_path / "x.pth") in str(error.value) and "\n" not in str(error.value)


def test_damaged_safetensors_are_refused_in_one_line(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"x\.safetensors cannot be read; it is cut off") as error:
        read_weights(tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)


def test_nothing_in_a_file_is_executed(tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(2)}, "trap": Trap(tmp_path / "made")}, tmp_path / "x.pth")
    with pytest.raises(UsageError, match="which could run code"):
        read_weights(tmp_path / "x.pth")
    assert not (tmp_path / "made").exists()


def test_a_path_that_is_not_there_and_a_folder_that_is_no_run_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"^weights must be a run folder or a file of weights, got '.*gone.pt': there"):
        read_weights(tmp_path / "gone.pt")
    with pytest.raises(UsageError, match=r"holds no checkpoint 'last\.pt'; there is nothing"):
        read_weights(tmp_path)
    assert dataclasses.asdict(Toy(weights=str(tmp_path / "gone.pt")))["weights"].endswith("gone.pt")  # of an old run
