"""``assay export``, from the command line to a file that onnxruntime or torch runs alone."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from assay.runner import load_checkpoint, load_model
from assay.runner.commands.main import main
from assay.runner.export import export as export_module
from assay.runner.export import options as options_module

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")

TOYS = Path(__file__).parents[1] / "toys"


def export(run, *arguments):
    return main(["export", str(run), *arguments])


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_an_onnx_file_runs_without_assay_by_what_it_tells(run_of, tmp_path, capsys):
    run, path = run_of("labels"), tmp_path / "new" / "colour.onnx"
    assert export(run, "--output", str(path)) == 0
    session = session_of(path)
    told = session.get_modelmeta().custom_metadata_map
    assert (told["task"], json.loads(told["class_names"])) == ("classification", ["red", "green", "blue"])
    assert (told["activation"], told["resize"], json.loads(told["size"])) == ("softmax", "stretch", [8, 8])
    mean, std = np.array(json.loads(told["mean"])), np.array(json.loads(told["std"]))
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    images = (((pictures / 255 - mean) / std).transpose(0, 3, 1, 2)).astype(np.float32)
    logits = session.run(["logits"], {"image": images})[0]
    given = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = [list(one.values()) for one in load_model(run)(list(pictures))]
    np.testing.assert_allclose(given, expected, atol=1e-5)
    printed = capsys.readouterr().out.splitlines()[-3:]
    assert printed[0] == f"exported the weights of epoch {told['epoch']}: {path} (ONNX, opset 18)"
    assert printed[1] == "  image [batch, 3, 8, 8] -> logits [batch, 3]"
    assert printed[2].startswith("checked on 10 of 10 validation samples: it differs from the model by at most ")
    assert [one.name for one in path.parent.iterdir()] == ["colour.onnx"]


def test_a_program_of_torch_keeps_the_same_in_its_extra_files(run_of, tmp_path):
    run = run_of("labels")
    assert export(run, "--format", "torch-export", "--checkpoint", "last", "--output", str(tmp_path / "x.pt2")) == 0
    extra = {"assay.json": ""}
    program = torch.export.load(io.BytesIO((tmp_path / "x.pt2").read_bytes()), extra_files=extra)
    told = json.loads(extra["assay.json"])
    assert (told["epoch"], told["class_names"], told["inputs"]) == (
        3, ["red", "green", "blue"], {"image": ["batch", 3, 8, 8]},
    )  # fmt: skip
    weights = load_checkpoint(run, "last")["model"][""]
    image = torch.randn(4, 3, 8, 8)
    expected = image.mean(dim=(2, 3)) @ weights["layer.weight"].T + weights["layer.bias"]
    torch.testing.assert_close(program.module()(image)["logits"], expected)


@pytest.mark.long("translates a net to ONNX twice, 5 seconds each")
def test_by_default_the_file_is_in_the_run_folder_and_an_opset_can_be_chosen(run_of, tmp_path):
    run = shutil.copytree(run_of("masks"), tmp_path / "run")
    assert export(run, "--opset", "20") == 0
    session = session_of(run / "export" / "best.onnx")
    told = session.get_modelmeta().custom_metadata_map
    assert (told["activation"], told["threshold"], told["task"]) == ("sigmoid", "0.5", "segmentation")
    import onnx

    assert [it.version for it in onnx.load(run / "export" / "best.onnx").opset_import if it.domain == ""] == [20]


def test_the_moving_average_is_what_is_exported_in_fp32_whatever_the_run_was(run_of, tmp_path):
    run = run_of("labels", "--ema-decay", "0.5", "--epochs", "2")
    copy = shutil.copytree(run, tmp_path / "run")
    config = yaml.safe_load((copy / "config.yaml").read_text())
    changed = config | {"precision": "bf16", "channels_last": True}
    (copy / "config.yaml").write_text(yaml.safe_dump(changed))
    path = tmp_path / "x.pt2"
    assert export(copy, "--checkpoint", "last", "--format", "torch-export", "--output", str(path)) == 0
    state = load_checkpoint(run, "last")
    average = state["ema"]["models"][""]
    assert not torch.equal(average["layer.weight"], state["model"][""]["layer.weight"])
    image = torch.randn(2, 3, 8, 8)
    expected = image.mean(dim=(2, 3)) @ average["layer.weight"].T + average["layer.bias"]
    torch.testing.assert_close(torch.export.load(path).module()(image)["logits"], expected)


@pytest.mark.parametrize(
    "kind", [pytest.param("onnx", marks=pytest.mark.long("translates a net to ONNX twice")), "torch-export"]
)
def test_a_file_that_gives_something_else_is_not_left(run_of, tmp_path, capsys, monkeypatch, kind):
    encode = export_module._Model.encode

    def encode_other_weights(self, options):
        weights = list(self.program.state_dict.values())
        for value in weights:
            value.mul_(2)
        content = encode(self, options)
        for value in weights:
            value.div_(2)
        return content

    monkeypatch.setattr(export_module._Model, "encode", encode_other_weights)
    (tmp_path / "old").write_text("of before")
    for name, before in (("new/x", None), ("old", "of before")):
        path = tmp_path / name
        assert export(run_of("masks"), "--format", kind, "--output", str(path)) == 1
        assert (path.read_text() if path.exists() else None) == before
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["old"]
    assert f"in logits, and the limit is 0.001: {tmp_path / 'old'} is not written" in capsys.readouterr().out


BROKEN = '''
"""A model that cannot be exported."""
from dataclasses import dataclass
import albumentations as A
import torch
from torch import nn
from assay.runner import Experiment
from assay.runner.prediction import ClassPrediction

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, image):
        {body}

@dataclass(kw_only=True)
class Broken(Experiment):
    epochs: int = 1
    check: str = "off"
    device: str = "cpu"

    def get_loaders(self):
        items = [{{"image": torch.rand(3, 4, 4), "target": i % 2}} for i in range(6)]
        return {{"train": self.make_loader(items), "valid": self.make_loader(items)}}

    def get_model(self):
        return Net()

    def get_prediction(self):
        return ClassPrediction(class_names=["a", "b"], transform=A.ToTensorV2())
'''


def trained(tmp_path, body):
    (tmp_path / "broken.py").write_text(BROKEN.format(body=body))
    assert main(["train", str(tmp_path / "broken.py"), "--run-dir", str(tmp_path / "run")]) == 0
    return tmp_path / "run"


def test_a_model_that_looks_at_values_is_refused_in_one_line(tmp_path, capsys):
    body = "return {'logits': self.layer(image.mean((2, 3))) * (2 if image.mean().item() > 0 else 1)}"
    run = trained(tmp_path, body)
    assert export(run) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("assay: error: the model cannot be exported to onnx: ")
    assert "use torch.where and fixed sizes instead" in error
    assert not (run / "export").exists()


def test_a_model_of_a_fixed_number_of_images_is_exported_for_one(tmp_path, capsys):
    body = "return {'logits': torch.stack([self.layer(one.mean((1, 2))) for one in image])}"
    assert export(trained(tmp_path, body), "--format", "torch-export") == 0
    printed = capsys.readouterr().out
    assert "image [1, 3, 4, 4] -> logits [1, 2]" in printed and "takes one sample at a time" in printed
    assert "checked on 6 of 6 validation samples" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onx"], "unknown --format 'onx'; did you mean 'onnx'? There is: 'onnx', 'torch-export'."),
        (["--opset", "3"], "--opset must be from 13 to 23, got 3."),
        (
            ["--format", "torch-export", "--opset", "18"],
            "--opset is for --format onnx: leave it out with torch-export.",
        ),
        (["--output", "."], "--output . must be a file, and is a folder."),
    ],
)
def test_wrong_options_are_answered_before_torch_is_imported(run_of, capsys, monkeypatch, arguments, message):
    monkeypatch.setattr("assay.runner.commands.run_commands.quick_imports", None)
    assert export(run_of("labels"), *arguments) == 2
    assert capsys.readouterr().err == f"assay: error: {message}\n"


def test_a_missing_package_is_named_with_the_command_that_installs_it(run_of, capsys, monkeypatch):
    monkeypatch.setattr(options_module, "_PACKAGES", ("onnx", "no_such_runtime"))
    assert export(run_of("labels")) == 2
    assert capsys.readouterr().err == (
        "assay: error: --format onnx needs no_such_runtime, which is not installed: "
        'uv pip install "catalyst-assay[export]", or in a checkout: make setup.\n'
    )
