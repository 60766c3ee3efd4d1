"""Weights in NaN are refused where a run is used, in one line and with exit code 1; so is an image that gives NaN."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from assay.runner import DictRunner, Engine, load_checkpoint
from assay.runner.commands.main import main
from assay.runner.loop.checks.finite_weights import BrokenWeightsError, check_finite_weights

TOYS = Path(__file__).parents[2] / "toys"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "labels"
    assert main(["train", str(TOYS / "labels.py"), "--run-dir", str(folder), "--epochs", "1"]) == 0
    return folder


@pytest.fixture
def broken(run, tmp_path):
    """A checkpoint whose weights hold NaN in one value."""
    state = load_checkpoint(run)
    state["model"][""]["layer.bias"][1] = torch.nan
    torch.save(state, tmp_path / "broken.pt")
    return tmp_path / "broken.pt"


@pytest.fixture
def images(tmp_path):
    for index in range(3):
        pixels = np.full((8, 8, 3), 60 * index, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("command", ["evaluate", "predict", "ensemble"])
def test_the_command_fails_with_one_line_and_leaves_nothing(run, broken, images, command, capfd):
    used = ["--checkpoint", str(broken)]
    arguments = ["evaluate", str(run), *used]
    source = f"checkpoint {broken}"
    if command != "evaluate":
        output = ["--input", str(images / "1.png"), "--output", str(images / "out")]
        arguments = ["predict", str(run), *output, *used]
    if command == "ensemble":
        last = run / "checkpoints" / "last.pt"
        arguments += [str(last), "--ensemble", "weights"]
        source = f"the mean of checkpoint {broken}, checkpoint {last}"
    capfd.readouterr()
    assert main(arguments) == 1
    expected = (
        f"assay: error: the weights of {source} are broken: 1 of the 3 values of 'layer.bias' are NaN or infinite; "
        "choose a checkpoint of an earlier epoch."
    )
    assert expected in capfd.readouterr().err.splitlines()
    assert not (images / "out").exists()
    assert not list(run.glob("evaluate/*"))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

    def forward(self, image):
        return {"logits": self.norm(self.layer(image))}


def test_predict_loader_refuses_them_too():
    model = Net()
    model.norm.running_var[0] = torch.inf
    loader = DataLoader([{"image": torch.zeros(2)}], 1)
    message = r"the weights of the model are broken: 1 of the 2 values of 'norm\.running_var' are NaN or infinite"
    with pytest.raises(BrokenWeightsError, match=message):
        next(DictRunner(model).predict_loader(loader=loader, engine=Engine("cpu")))


def test_a_mask_in_a_buffer_may_be_infinite_but_not_nan():
    model = Net()
    check_finite_weights({"": model}, "the model")
    model.mask[0] = torch.nan
    with pytest.raises(BrokenWeightsError, match=r"1 of the 2 values of 'net\.mask' are NaN"):
        check_finite_weights({"net": model}, "the model")


def test_an_image_that_gives_nan_is_named_and_the_others_are_predicted(run, images, monkeypatch, capfd):
    forward = DictRunner.predict_batch

    def breaks(self, batch):
        outputs = forward(self, batch)
        dark = batch["image"].mean(dim=(1, 2, 3)) < -1.5
        return {**outputs, "logits": outputs["logits"].masked_fill(dark[:, None], torch.nan)}

    monkeypatch.setattr(DictRunner, "predict_batch", breaks)
    out = images / "out"
    assert main(["predict", str(run), "--input", str(images), "--output", str(out)]) == 1
    assert "cannot be predicted: the model's output for it is NaN or infinite" in capfd.readouterr().err
    with open(out / "predictions.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["1.png", "2.png"]
