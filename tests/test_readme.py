"""What the README says is done here to the letter."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from catalyst import dl
from kit import Named
from torch import nn
from torch.utils.data import DataLoader

from assay import callbacks
from assay.runner.commands.main import main

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


def block_with(text):
    (block,) = [block for block in BLOCKS if text in block]
    return block


def loader(image_key, target_key):
    images, targets = torch.rand(24, 3, 8, 8), torch.arange(24) % 10
    items = [{image_key: image, target_key: target} for image, target in zip(images, targets, strict=True)]
    return DataLoader(items, batch_size=8)


@pytest.mark.long(
    "trains in a process of its own by make; test_the_fields_of_the_experiment_of_the_readme_are_flags trains it too"
)
def test_the_experiment_of_the_readme_trains_and_learns_as_it_is_told_to(tmp_path):
    (file, command), *others = re.findall(r"Save it as `([\w.]+)` and run `(make [^`]+)`", README.read_text())
    assert not others
    (tmp_path / file).write_text(block_with("class Blobs(Experiment)"))
    there = [
        "--file",
        README.parent / "Makefile",
        f"BIN={Path(sys.executable).parent}",
        "--old-file",
        ".venv/.installed",
    ]
    wide = {**os.environ, "COLUMNS": "200"}  # room for the accuracy beside what the best epoch is chosen by
    ran = subprocess.run(
        [*command.split(), *there], cwd=tmp_path, env=wide, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    accuracy = float(re.search(r"best epoch: .* valid/accuracy ([\d.]+)", ran.stdout).group(1))
    assert accuracy >= 0.9


def test_the_fields_of_the_experiment_of_the_readme_are_flags(tmp_path, monkeypatch, capsys):
    (tmp_path / "blobs.py").write_text(block_with("class Blobs(Experiment)"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "./blobs.py", "--samples", "64", "--epochs", "1"]) == 0
    with pytest.raises(SystemExit):
        main(["train", "./blobs.py", "--help"])
    assert re.search(r"--samples INT +How many images to make", capsys.readouterr().out)


@pytest.mark.parametrize("text", ["DictRunner(", "dl.SupervisedRunner("])
def test_the_runner_blocks_of_the_readme_run_and_draw(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stock = "Supervised" in text
    keys = ("features", "targets") if stock else ("image", "target")
    model = Named(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), None if stock else "logits")
    names = {
        "model": model,
        "criterion": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loaders": {"train": loader(*keys), "valid": loader(*keys)},
        "train": loader(*keys),
        "valid": loader(*keys),
    }
    exec(compile(block_with(text), str(README), "exec"), names)
    events = list(tmp_path.rglob("valid/events*"))
    assert events
    tag = b"1_overview/worst/loss" if stock else b"9_batches/worst/loss"
    assert any(tag in path.read_bytes() for path in events)


def test_every_make_target_of_the_readme_exists():
    makefile = (README.parent / "Makefile").read_text()
    targets = set(re.findall(r"\bmake ([a-z]+)\b(?= |$|`)", README.read_text(), flags=re.MULTILINE)) - {"alone"}
    assert targets >= {"train", "test", "lint", "list", "tensorboard"}
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_picture_of_the_readme_is_there_and_small():
    pictures = re.findall(r"!\[[^]]*\]\((\S+)\)", README.read_text())
    assert len(pictures) == 6
    for picture in pictures:
        assert 0 < (README.parent / picture).stat().st_size < 300_000


def test_every_callback_of_the_readme_exists_and_every_one_is_named():
    table = README.read_text().split("| callback | in TensorBoard |")[1].split("\n\n")[0]
    named = {
        name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.split("|")[1] if "|" in row else "")
    }
    exported = {
        name
        for name in callbacks.__all__
        if isinstance(getattr(callbacks, name), type) and issubclass(getattr(callbacks, name), dl.Callback)
    }
    assert named == exported
