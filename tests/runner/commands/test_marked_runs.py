"""``--exclude`` and ``--relabel`` of an experiment, from the command line to what was trained."""

import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import yaml
from PIL import Image

from assay.callbacks.history.marks import Mark, add_marks
from assay.runner.commands.main import main

QUICK = ["--device", "cpu", "--check", "off", "--epochs", "1", "--threads", "1"]

OWN = """
from dataclasses import dataclass
import torch
from torch import nn
from assay.runner import Experiment
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 2)
    def forward(self, image):
        return {"logits": self.layer(image)}
@dataclass(kw_only=True)
class Own(Experiment):
    def get_loaders(self):
        items = [{"image": torch.zeros(4), "target": 0, "sample_id": f"s{n}"} for n in range(8)]
        return {"train": self.make_loader(items), "valid": self.make_loader(items)}
    def get_model(self):
        return Net()
"""


def targets(run, loader, epoch=1):
    """Return the class of each sample by its id, as an epoch saw it."""
    folder = run / "samples" / loader
    rows = pl.read_parquet(folder / f"epoch-{epoch:06}.parquet").join(
        pl.read_parquet(folder / "ids.parquet"), on="index"
    )
    return dict(rows.select("id", "target").iter_rows())


def split_of(run):
    with open(run / "split.csv", newline="") as file:
        return {row["image"]: row["split"] for row in csv.DictReader(file)}


@pytest.mark.long("trains digits three times; pictures are marked in a quicker test")
def test_digits_are_trained_without_what_is_excluded_and_the_run_goes_on_so(tmp_path, capfd):
    marks, run = tmp_path / "marks.csv", tmp_path / "run"
    add_marks(
        marks,
        [Mark("train", "digit-0001", "skip"), Mark("train", "digit-0002", "wrong_label", "7"),
         Mark("valid", "digit-0005", "wrong_label")],
    )  # fmt: skip
    flags = ["--exclude", str(marks), "--relabel", str(marks), "--run-dir", str(run), *QUICK]
    assert main(["train", "digits", *flags]) == 0
    printed = capfd.readouterr().out
    assert f"left out by {marks}: 1 of 1,437 of train, 1 of 360 of valid" in printed
    assert f"given another label by {marks}: 1 of 1,437 of train; 1 mark without a label" in printed
    trained, validated = targets(run, "train"), targets(run, "valid")
    assert len(trained) == 1436 and "digit-0001" not in trained and trained["digit-0002"] == 7
    assert len(validated) == 359 and "digit-0005" not in validated
    assert yaml.safe_load((run / "config.yaml").read_text())["exclude"] == str(marks)
    # What is marked later, and a file that is gone, change nothing of a run that goes on.
    marks.unlink()
    assert main(["train", "digits", "--resume", str(run), "--epochs", "2"]) == 0
    assert targets(run, "train", 2).keys() == trained.keys()
    before = {path: path.read_bytes() for path in (run / "samples").rglob("*") if path.is_file()}
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    # An evaluation is no epoch of the run, and keeps no history of its own.
    assert {path: path.read_bytes() for path in (run / "samples").rglob("*") if path.is_file()} == before != {}
    assert not [*(run / "evaluate").rglob("samples")]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    draw = np.random.default_rng(0)
    for number in range(30):
        path = folder / ["red", "blue"][number >= 20] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    return folder


LONG = pytest.mark.long("trains a net of pictures; two ways to balance classes are tried by quicker tests")


@pytest.mark.parametrize(
    "order",
    [
        pytest.param([], marks=LONG),
        ["--sampler", "balanced"],
        ["--class-weights", "balanced"],
        pytest.param(["--fold", "2/3"], marks=LONG),
    ],
)
def test_pictures_of_ones_own_are_marked_after_the_split(order, photos, tmp_path, capfd):
    flags = ["--data-dir", str(photos), "--width", "4", "--image-size", "16", "--augmentation", "none", *QUICK, *order]
    assert main(["train", "classify", *flags, "--run-dir", str(tmp_path / "plain")]) == 0
    parts = split_of(tmp_path / "plain")
    train, valid = ([name for name, part in parts.items() if part == of] for of in ("train", "valid"))
    red = next(name for name in train if name.startswith("red"))
    # By the wrong loader, as where another fold was marked.
    marks = [
        Mark("train", train[-1], "skip"),
        Mark("valid", red, "wrong_label", "blue"),
        Mark("train", valid[0], "skip"),
    ]
    add_marks(tmp_path / "marks.csv", marks)
    given = ["--exclude", str(tmp_path / "marks.csv"), "--relabel", str(tmp_path / "marks.csv")]
    capfd.readouterr()
    assert main(["train", "classify", *flags, *given, "--run-dir", str(tmp_path / "marked")]) == 0
    printed = capfd.readouterr().out
    assert "given another label by" in printed and "left out by" in printed
    assert split_of(tmp_path / "marked") == parts
    trained, validated = targets(tmp_path / "marked", "train"), targets(tmp_path / "marked", "valid")
    assert validated.keys() == {*valid[1:]}
    names = sorted({"red", "blue"})
    assert trained.keys() <= {*train[:-1]}
    if "--sampler" not in order:
        assert trained.keys() == {*train[:-1]}
    for name, target in trained.items():
        assert names[target] == ("blue" if name == red else name.split("/")[0])
    if "--class-weights" in order:
        counts = [sum(name.startswith(of) for name in train) for of in ("blue", "red")]
        counts = [counts[0] + 1 - train[-1].startswith("blue"), counts[1] - 1 - train[-1].startswith("red")]
        weights = {of: sum(counts) / 2 / count for of, count in zip(("blue", "red"), counts, strict=True)}
        assert all(f"{of} {weight:.3g}" in printed for of, weight in weights.items())


@pytest.mark.long("starts a launcher with two ranks")
def test_two_ranks_train_on_what_one_would(tmp_path):
    marks, run = tmp_path / "marks.csv", tmp_path / "run"
    add_marks(marks, [Mark("train", "digit-0001", "skip"), Mark("train", "digit-0002", "wrong_label", "7")])
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    flags = ["--exclude", str(marks), "--relabel", str(marks), "--run-dir", str(run), *QUICK]
    done = subprocess.run(
        [*launch, "assay.runner", "train", "digits", *flags],
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(f"left out by {marks}: 1 of 1,437 of train") == 1
    trained = targets(run, "train")
    assert len(trained) == 1436 and "digit-0001" not in trained and trained["digit-0002"] == 7
    assert len(targets(run, "valid")) == 360


def test_an_experiment_that_applies_no_marks_is_refused(tmp_path, capfd):
    (tmp_path / "own.py").write_text(OWN)
    add_marks(tmp_path / "marks.csv", [Mark("train", "s1", "skip")])
    flags = ["--exclude", str(tmp_path / "marks.csv"), "--run-dir", str(tmp_path / "run"), *QUICK]
    assert main(["train", str(tmp_path / "own.py"), *flags]) == 2
    assert "--exclude has no use with this experiment's own get_loaders" in capfd.readouterr().err
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_a_wrong_file_of_marks_is_one_line(tmp_path, capfd):
    (tmp_path / "marks.csv").write_text("loader,sample_id,mark,label\ntrain,digit-0001,skipp,\n")
    for flags, message in (
        (["--exclude", str(tmp_path / "marks.csv")], "line 2: unknown mark 'skipp'"),
        (["--relabel", str(tmp_path / "none.csv")], "there is no file of marks"),
    ):
        assert main(["train", "digits", *flags, "--run-dir", str(tmp_path / "run"), *QUICK]) == 2
        error = capfd.readouterr().err
        assert message in error and error.count("\n") == 1
