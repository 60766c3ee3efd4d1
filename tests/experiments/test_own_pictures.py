"""Runs on pictures of one's own: their split, what is wrong with them, and what a run remembers of them."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from assay.runner.commands.main import main

EXPERIMENT = '''"""Tell colours apart."""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from assay.callbacks import classification_diagnostics
from assay.experiments.own_pictures import OwnPictures
from assay.runner.prediction import ClassPrediction


@dataclass(kw_only=True)
class Colours(OwnPictures):
    epochs: int = 2
    batch_size: int = 8
    image_size: int = 16
    monitor: list[str] = field(default_factory=lambda: ["valid/loss:min"])

    kind: ClassVar = "classify"

    def get_model(self):
        return Net(len(self.class_names))

    def get_criterion(self):
        from torch import tensor

        weights = self.weights_of_classes
        return nn.CrossEntropyLoss(weight=None if weights is None else tensor(weights))

    def get_callbacks(self):
        return classification_diagnostics("off", class_names=self.class_names)

    def get_prediction(self):
        return ClassPrediction(class_names=self.class_names, transform=self.get_transform())


class Net(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, classes))

    def forward(self, image):
        return {"logits": self.layers(image)}
'''
COLOURS = {"blue": (20, 40, 220), "red": (220, 40, 20)}
PLAIN = ["--augmentation", "none", "--device", "cpu", "--run-dir", "run"]


def paint(path, colour, number=0):
    """Write a picture of one colour with some noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(number).integers(-20, 20, (20, 24, 3))
    Image.fromarray(np.uint8(np.clip(np.array(COLOURS[colour]) + noise, 0, 255))).save(path)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Return a folder of 20 blue and 10 red pictures, beside a file with an experiment, in the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("colours.py").write_text(EXPERIMENT)
    for colour, count in (("blue", 20), ("red", 10)):
        for number in range(count):
            paint(Path("photos") / colour / f"part{number // 2}_{number}.png", colour, number)
    return Path("photos")


def train(*flags, data="photos"):
    return main(["train", "./colours.py", "--data-dir", data, *PLAIN, *flags])


def read_split(run="run"):
    with (Path(run) / "split.csv").open(newline="") as file:
        return {row["image"]: row["split"] for row in csv.DictReader(file)}


def read_metrics(path):
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["loader"] == "valid"]
    return {(row["epoch"], row["metric"]): float(row["value"]) for row in rows}


def test_a_run_says_what_it_found_and_writes_down_how_it_is_split(photos, capsys):
    assert train() == 0
    out = capsys.readouterr().out
    assert "data: a folder per class: 30 images, 2 classes; no split given\n" in out
    assert "split: train 24, valid 6, a share of 0.2, drawn by class\n" in out
    split = read_split()
    assert sorted(split) == sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert sum(name.startswith("blue") and part == "valid" for name, part in split.items()) == 4
    assert sum(name.startswith("red") and part == "valid" for name, part in split.items()) == 2
    summary = json.loads(Path("run/data.json").read_text())
    assert (summary["task"], summary["class_names"]) == ("multiclass", ["blue", "red"])
    assert not Path("run/data_problems.txt").exists()


def test_what_is_wrong_with_the_data_is_in_a_file_and_the_first_ten_are_said(photos, capsys):
    rows = [["image", "label"], *([path.as_posix(), path.parent.name] for path in sorted(photos.rglob("*.png")))]
    rows += [[f"photos/lost{number}.png", "red"] for number in range(13)]
    with open("labels.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert train(data="labels.csv") == 0
    out = capsys.readouterr().out
    problems = Path("run/data_problems.txt").read_text().splitlines()
    assert len(problems) == 13
    assert all(f"labels.csv, line {32 + number}" in line and "lost" in line for number, line in enumerate(problems))
    assert all((line in out) == (number < 10) for number, line in enumerate(problems))
    assert "and 3 more problems, all in data_problems.txt of the run folder\n" in out
    assert "split: train 24, valid 6, a share of 0.2, drawn by class\n" in out


def test_a_run_that_goes_on_keeps_its_split_where_files_were_added_since(photos, capsys):
    assert train() == 0
    split = read_split()
    for number in range(100, 120):
        paint(photos / "red" / f"new_{number}.png", "red", number)
    assert main(["train", "./colours.py", "--resume", "run", "--epochs", "3"]) == 0
    out = capsys.readouterr().out
    assert "run/split.csv leaves out 20 of 50 images, the first is 'red/new_100.png'." in out
    assert read_split() == split
    assert {epoch for epoch, _ in read_metrics(Path("run/metrics.csv"))} == {"1", "2", "3"}


def test_an_evaluation_scores_the_images_that_the_run_was_validated_on(photos):
    assert train() == 0
    for number in range(100, 120):
        paint(photos / "red" / f"a_{number}.png", "red", number)
    assert main(["evaluate", "run", "--checkpoint", "last"]) == 0
    found = read_metrics(Path("run/evaluate/valid-last/metrics.csv"))
    expected = read_metrics(Path("run/metrics.csv"))
    assert found[("2", "loss")] == pytest.approx(expected[("2", "loss")], rel=1e-6)


def test_a_split_that_is_given_back_holds_whatever_the_seed(photos):
    assert train() == 0
    shutil.move("run", "first")
    assert train("--split", "first/split.csv", "--seed", "7", "--epochs", "1") == 0
    assert read_split("run") == read_split("first")
    shutil.move("run", "second")
    assert train("--seed", "7", "--epochs", "1") == 0
    assert read_split("run") != read_split("first")


def test_groups_by_a_pattern_of_the_file_name_and_folds(photos, capsys):
    assert train("--group-by", "^(part[0-9]+)_", "--fold", "2/3", "--epochs", "1") == 0
    groups = [
        {Path(name).name.split("_")[0] for name, part in read_split().items() if part == of}
        for of in ("train", "valid")
    ]
    assert not groups[0] & groups[1]
    assert len(groups[0] | groups[1]) == 10


def test_a_prediction_needs_no_data_set(photos):
    assert train("--epochs", "1") == 0
    shutil.move("photos", "away")
    assert main(["predict", "run", "--input", "away/red", "--output", "predicted"]) == 0
    with open("predicted/predictions.csv", newline="") as file:
        assert {"probability/blue", "probability/red"} <= set(csv.DictReader(file).fieldnames)


def test_a_test_part_is_held_back_and_scored_on_demand(photos, capsys):
    for colour in COLOURS:
        for number, path in enumerate(sorted((photos / colour).iterdir())):
            part = ("train", "train", "train", "val", "test")[number % 5]
            Path("parts", part, colour).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, Path("parts", part, colour, path.name))
    assert train(data="parts") == 0
    out = capsys.readouterr().out
    assert "split: train 18, valid 6, test 6, as in the data set\n" in out
    assert "test is held back: assay evaluate RUN --loader valid_test\n" in out
    assert main(["evaluate", "run", "--loader", "valid_test"]) == 0
    assert Path("run/evaluate/valid_test-best/metrics.csv").is_file()
    assert main(["evaluate", "run", "--loader", "valid_tset"]) == 2
    assert "'valid_test'" in capsys.readouterr().err


def test_weights_and_a_balanced_sampler_are_said_and_change_the_training(photos, capsys):
    found = {}
    for name, flags, said in (
        ("plain", [], "split: train 24, valid 6"),
        ("weighted", ["--class-weights", "balanced"], "class weights: red 1.5, blue 0.75\n"),
        ("named", ["--class-weights", "{red: 3}"], "class weights: red 3, blue 1\n"),
        ("sampled", ["--sampler", "balanced"], "split: train 24, valid 6"),
    ):
        assert train(*flags, "--epochs", "1") == 0
        assert said in capsys.readouterr().out
        found[name] = tuple(read_metrics(Path("run/metrics.csv")).values())
        shutil.move("run", name)
    assert len(set(found.values())) == 4
    assert yaml.safe_load(Path("named/config.yaml").read_text())["class_weights"] == {"red": 3.0}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--fold", "4/3"], "fold must be one of several, such as 1/5 to 5/5, got '4/3'"),
        (["--valid-share", "1.5"], "valid_share must be less than 1"),
        (["--valid-share", "0.3", "--fold", "1/3"], "--valid-share has no use with --fold: leave one of them out"),
        (["--group-by", "x", "--split", "a.csv"], "--group-by has no use with --split: leave one of them out"),
        (["--split", "a.csv"], "a.csv cannot be read: No such file or directory"),
        (["--group-by", "(x"], "group_by '(x' is neither a column nor a regular expression"),
        (["--group-by", "(nothing)"], "group_by '(nothing)' matches no part of 30 of 30 images"),
        (["--class-weights", "{rad: 2}"], "unknown class in class_weights 'rad'; did you mean 'red'?"),
        (["--class-weights", "{red:3,rad:2}"], "unknown class in class_weights 'rad'; did you mean 'red'?"),
        (["--class-weights", "even"], "--class-weights must be balanced or {name: number} or null, got 'even'"),
        (["--sampler", "even"], "unknown sampler 'even'"),
        (["--data-dir", "nowhere"], "nowhere is not there"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_no_run(photos, capsys, flags, message):
    assert train(*flags) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.strip()]
    assert message in line
    assert not Path("run").exists()


def test_a_share_for_a_data_set_that_is_split_already_is_refused(photos, capsys):
    for part in ("train", "val"):
        shutil.copytree(photos, Path("parts", part))
    assert train("--valid-share", "0.3", data="parts") == 2
    assert "--valid-share has no use: the data set is split already" in capsys.readouterr().err
    assert train("--fold", "1/2", "--silence", "shared-images", data="parts") == 0
    assert "split: train 30, valid 30, fold 1/2, drawn by class\n" in capsys.readouterr().out


def test_without_a_data_set_the_flag_is_named(photos, capsys):
    assert main(["train", "./colours.py", *PLAIN]) == 2
    assert "--data-dir is needed: the folder or file with your pictures" in capsys.readouterr().err


def test_a_run_is_not_gone_on_with_on_other_classes_or_without_its_images(photos, capsys):
    assert train() == 0
    paint(photos / "green" / "1.png", "blue")
    again = ["train", "./colours.py", "--resume", "run", "--epochs", "3"]
    assert main(again) == 2
    assert (
        "with the classes blue, green, red; the run was trained with multiclass and blue, red"
        in capsys.readouterr().err
    )
    shutil.rmtree(photos / "green")
    (photos / "red" / "part0_0.png").unlink()
    assert main(again) == 2
    assert "run/split.csv names 1 of 30 images that the data set in photos does not hold" in capsys.readouterr().err


def test_a_run_whose_summary_is_damaged_says_so(photos, capsys):
    assert train("--epochs", "1") == 0
    Path("run/data.json").write_text("{}")
    assert main(["predict", "run", "--input", "photos", "--output", "predicted"]) == 2
    assert "run/data.json is damaged" in capsys.readouterr().err
