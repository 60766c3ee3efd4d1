"""What the README and docs/own-pictures.md say of pictures of one's own is done here to the letter."""

import csv
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from assay.runner.commands.main import main

ROOT = Path(__file__).parents[1]
README, PAGE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "own-pictures.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
COMMANDS = re.findall(r'^make train EXP=(classify|segment|detect) ARGS="([^"]*)"', README, flags=re.MULTILINE)
SMALL = ["--device", "cpu", "--epochs", "1", "--limit-batches", "1", "--batch-size", "2", "--image-size", "64"]
VOC = """<annotation><filename>{name}.jpg</filename><size><width>80</width><height>60</height><depth>3</depth></size>
<object><name>{label}</name><bndbox><xmin>11</xmin><ymin>11</ymin><xmax>40</xmax><ymax>50</ymax></bndbox></object>
</annotation>"""


def paint(path, size=(60, 80), number=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)


def make_photos(folder="photos"):
    for label in ("cat", "dog"):
        for number in range(6):
            paint(Path(folder, label, f"{number}.jpg"), number=number)


def make_table():
    for number in range(12):
        paint(Path("photos", f"{number}.jpg"), number=number)
    with open("labels.csv", "w", newline="") as file:
        rows = [[f"photos/{number}.jpg", ("cat", "dog")[number % 2]] for number in range(12)]
        csv.writer(file).writerows([["image", "label"], *rows])


def make_tiles():
    for number in range(10):
        paint(Path("tiles/images", f"{number}.png"), number=number)
        mask = np.zeros((60, 80), dtype=np.uint8)
        mask[10:40, 20:60] = 1
        Path("tiles/masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(Path("tiles/masks", f"{number}.png"))


def make_blood():
    Path("blood/Annotations").mkdir(parents=True)
    for number in range(10):
        paint(Path("blood/JPEGImages", f"{number}.jpg"), number=number)
        text = VOC.format(name=number, label=("RBC", "WBC")[number % 2])
        Path("blood/Annotations", f"{number}.xml").write_text(text)


MAKERS = {
    "photos": make_photos,
    "sign_digits": lambda: make_photos("sign_digits"),
    "labels.csv": make_table,
    "tiles": make_tiles,
    "blood": make_blood,
}


def test_the_readme_has_a_command_for_each_kind_of_data():
    assert {shlex.split(arguments)[1] for _, arguments in COMMANDS} >= MAKERS.keys()
    assert {experiment for experiment, _ in COMMANDS} == {"classify", "segment", "detect"}


LARGE = pytest.mark.long("trains a backbone of 28 million parameters, and saves it several times")
OTHER = pytest.mark.long("trains a net of millions of parameters; one command is tried each time")


def _marks(experiment, arguments):
    if "--pretrained" in arguments:
        return LARGE
    return () if experiment == "segment" else OTHER


@pytest.mark.parametrize(
    ("experiment", "arguments"),
    [pytest.param(*command, marks=_marks(*command)) for command in COMMANDS],
)
def test_a_command_of_the_readme_trains_on_data_in_its_layout(experiment, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [word for word in shlex.split(arguments) if word != "--pretrained"]  # which asks the network
    MAKERS[arguments[1]]()
    assert main(["train", experiment, *arguments, *SMALL]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^data: .*\d+ images, 2 classes", out, flags=re.MULTILINE), out
    assert re.search(r"^split: train \d+, valid 2, a share of 0\.2, drawn ", out, flags=re.MULTILINE), out


def test_the_file_of_the_page_is_short_and_an_experiment_on_a_layout_of_its_own(tmp_path, monkeypatch, capsys):
    ((file, command),) = re.findall(r"Save it as `([\w.]+)` and run `(make [^`]+)`", PAGE)
    (text,) = [block for block in BLOCKS if "def read_items" in block]
    assert len(text.splitlines()) < 30
    monkeypatch.chdir(tmp_path)
    Path(file).write_text(text)
    for number in range(24):
        paint(Path("photos", f"{('scratch', 'good')[number % 2]}_part{number // 4}_{number}.jpg"), number=number)
    experiment, arguments = re.fullmatch(r'make train EXP=(\S+) ARGS="(.*)"', command).groups()
    assert main(["train", experiment, *shlex.split(arguments), *SMALL[:-2], "--run-dir", "run"]) == 0
    assert "data: my parts: 24 images, 2 classes; no split given\n" in capsys.readouterr().out
    with open("run/split.csv", newline="") as split:
        parts = {(row["image"].split("_")[1], row["split"]) for row in csv.DictReader(split)}
    assert len(parts) == 6  # each part of the scratched ones is on one side


def test_the_readers_and_the_split_of_the_page_are_taken_one_by_one(tmp_path, monkeypatch, capsys):
    (text,) = [block for block in BLOCKS if "read_class_folders" in block]
    monkeypatch.chdir(tmp_path)
    for number in range(16):
        paint(Path("photos", ("cat", "dog")[number % 2], f"part{number // 4}_{number}.jpg"), number=number)
    exec(compile(text, "own-pictures.md", "exec"), {})
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a folder per class: 16 images, 2 classes; no split given"
    assert second.startswith("12 4 {'image': 'photos/cat/part")
