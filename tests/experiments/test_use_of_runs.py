"""Each experiment, trained a little on its own data, is evaluated and predicts images of that data."""

import csv
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from assay.experiments.alaska2 import generator as alaska2
from assay.experiments.digits import load_items
from assay.experiments.wheat import generator as wheat
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

sys.path.append(str(Path(__file__).parent / "inria"))
from inria_set import HEIGHT, WIDTH, write_set

QUICK = ["--epochs", "1", "--limit-batches", "1", "--diagnostics", "off", "--device", "cpu"]
SMALL = {
    "inria": ["--batch-size", "2", "--crop", "32", "--window", "32", "--encoder", "mobilenetv2"],
    "wheat": ["--batch-size", "2", "--image-size", "64", "--channels", "32", "--min-score", "0"],
    "alaska2": ["--batch-size", "8", "--width", "8"],
    "digits": [],
}


@pytest.fixture
def run(request, tmp_path, monkeypatch):
    """Train the experiment that a test is for; return its run folder."""
    name = request.param
    monkeypatch.chdir(tmp_path)
    if name == "inria":
        write_set(Path("data"))
    elif name != "digits":
        Path("data").mkdir()
        make = {"wheat": lambda folder: wheat.make_data(folder, 12, 96), "alaska2": alaska2_data}[name]
        make(Path("data"))
    given = [] if name == "digits" else ["--data-dir", "data"]
    assert main(["train", name, "--run-dir", "run", *given, *QUICK, *SMALL[name]]) == 0
    return Path("run")


def alaska2_data(folder):
    alaska2.make_data(folder, 12, 64)


def evaluate(run):
    assert main(["evaluate", str(run), "--checkpoint", "last"]) == 0
    trained = read_metrics(run / "metrics.csv")
    again = read_metrics(run / "evaluate" / "valid-last" / "metrics.csv")
    assert again == pytest.approx(
        {key: value for key, value in trained.items() if key[1] == "valid"}, abs=1e-6, nan_ok=True
    )


def predict(run, *arguments):
    assert main(["predict", str(run), "--checkpoint", "last", "--output", "out", *arguments]) == 0


def rows():
    with open("out/predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("run", ["digits"], indirect=True)
def test_digits_of_any_size_are_read(run):
    evaluate(run)
    Path("in").mkdir()
    for index, item in enumerate(load_items()[:3]):
        enlarged = cv2.resize(item["image"][..., 0], (8 + 8 * index,) * 2, interpolation=cv2.INTER_NEAREST)
        Image.fromarray(enlarged).save(f"in/{index}.png")
    predict(run, "--input", "in")
    assert [row["image"] for row in rows()] == ["0.png", "1.png", "2.png"]
    assert list(rows()[0])[2:] == [f"probability/{digit}" for digit in range(10)]


@pytest.mark.parametrize("run", ["alaska2"], indirect=True)
def test_stegos_get_the_probability_of_each_algorithm(run):
    evaluate(run)
    predict(run, "--input", "data", "--tta", "d4")
    assert len(rows()) == 48
    assert rows()[12]["image"] == "JMiPOD/00001.jpg"
    assert list(rows()[0])[2:] == [f"probability/{name}" for name in ("Cover", "JMiPOD", "JUNIWARD", "UERD")]


@pytest.mark.parametrize("run", ["wheat"], indirect=True)
def test_heads_of_wheat_get_boxes_within_the_image(run):
    evaluate(run)
    predict(run, "--input", "data/train", "--tta", "flips")
    sides = np.array([[float(row[side]) for side in ("left", "top", "right", "bottom")] for row in rows()])
    assert {row["class"] for row in rows()} <= {"head", "background"}  # after one step it knows no better
    assert sides.size == 0 or (sides.min() >= 0 and sides.max() <= 96)
    assert len(list(Path("out/drawn").iterdir())) == 12


@pytest.mark.parametrize("run", ["inria"], indirect=True)
@pytest.mark.long("trains a net, and predicts tiles with it; digits are predicted by a quicker test")
def test_houses_get_masks_of_the_tiles_size(run):
    evaluate(run)
    predict(run, "--input", "data/train/images", "--tile", "64", "--overlap", "16")
    masks = sorted(Path("out").glob("*.tif"))
    assert len(masks) == 6
    for mask in masks:
        with Image.open(mask) as image:
            assert image.size == (WIDTH, HEIGHT)
            assert set(np.unique(image)) <= {0, 255}
