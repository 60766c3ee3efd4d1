"""The experiment on masks that are made here, by the command line: its metrics against plain loops over the files."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from assay.experiments.segment import IGNORED, Segment
from assay.runner import DataSummary, UsageError, load_checkpoint
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

SIZES = [(32, 32), (32, 20), (24, 32), (32, 28)]
PALETTE = [(0, 0, 0), (200, 40, 40), (40, 200, 40)] + [(0, 0, 0)] * 252 + [(255, 255, 255)]
SMALL = ["--backbone=test_resnet", "--width=4", "--image-size=32", "--device=cpu", "--epochs=1", "--batch-size=3"]
MEAN = STD = 0.5  # as the weights of test_resnet expect it


def write_set(root, classes=3, count=10):
    """Discs of two kinds on noise, with a border of void around each; pictures of several sizes."""
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for i in range(count):
        height, width = SIZES[i % len(SIZES)]
        rows, columns = np.mgrid[:height, :width]
        mask, image = np.zeros((height, width), np.uint8), rng.integers(90, 150, (height, width, 3))
        for _ in range(3):
            kind = rng.integers(1, classes)
            distance = np.hypot(rows - rng.integers(height), columns - rng.integers(width)) - rng.integers(3, 8)
            mask[distance < 1] = IGNORED
            mask[distance < -1] = kind if classes > 2 else 1
            image[distance < 0, kind % 3] += 80
        if classes == 2:
            mask = np.where(mask == 1, 255, 0).astype(np.uint8)
        file = Image.fromarray(mask)
        if classes > 2:
            file.putpalette([part for colour in PALETTE for part in colour])
        file.save(root / f"masks/{i}.png")
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"images/{i}.png")
    (root / "classes.txt").write_text("\n".join(["ground", "apple", "leaf"][:classes]))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("discs") / "set")


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """A run that was trained with cross entropy."""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert train(root, folder, "--loss", "cross_entropy", "--diagnostics", "off") == 0
    return folder


def train(root, folder, *flags):
    return main(["train", "segment", "--data-dir", str(root), "--run-dir", str(folder), *SMALL, *flags])


def valid_files(folder):
    with open(folder / "split.csv", newline="") as file:
        return [row["image"] for row in csv.DictReader(file) if row["split"] == "valid"]


def predictions(root, folder, **fields):
    """Logits [C, H, W] and the stored mask of each image to validate on, in a plain loop over the files."""
    experiment = Segment(data_dir=str(root), backbone="test_resnet", width=4, image_size=32, **fields)
    model = experiment.get_model()
    model.load_state_dict(load_checkpoint(folder, "last")["model"][""])
    model.eval()
    for name in valid_files(folder):
        picture = np.asarray(Image.open(root / name).convert("RGB"))
        height, width = picture.shape[:2]
        top, left = (32 - height) // 2, (32 - width) // 2
        square = np.full((32, 32, 3), 128.0)
        square[top : top + height, left : left + width] = picture
        image = torch.from_numpy(((square / 255 - MEAN) / STD).transpose(2, 0, 1)[None]).float()
        with torch.no_grad():
            logits = model(image)["logits"][0].double().numpy()
        mask = np.asarray(Image.open(root / name.replace("images", "masks")))
        yield name, logits[:, top : top + height, left : left + width], mask


def by_loop(pairs, classes):
    """IoU and accuracy over all pixels that count."""
    both, either, right, counted = np.zeros(classes), np.zeros(classes), 0, 0
    for found, truth in pairs:
        keep = truth != IGNORED
        right, counted = right + (found == truth)[keep].sum(), counted + keep.sum()
        for number in range(classes):
            both[number] += ((found == number) & (truth == number))[keep].sum()
            either[number] += ((found == number) | (truth == number))[keep].sum()
    # A class that is neither there nor found has no IoU.
    return np.divide(both, either, out=np.full(classes, np.nan), where=either > 0), right / counted


def check_metrics(root, folder, apple):
    """Compare the metrics and the loss of a run with those of plain loops over pixels."""
    table = {name: value for (_, loader, name), value in read_metrics(folder / "metrics.csv").items()
             if loader == "valid"}  # fmt: skip
    held = [(logits, mask) for _, logits, mask in predictions(root, folder)]
    assert len(held) == 2
    iou, accuracy = by_loop([(logits.argmax(0), mask) for logits, mask in held], 3)
    assert table["iou"] == pytest.approx(np.nanmean(iou), abs=2e-4)
    assert table["accuracy"] == pytest.approx(accuracy, abs=2e-4)
    weights = [1.0, apple, 1.0]
    total = count = 0.0
    for logits, mask in held:
        chances = np.exp(logits - logits.max(0)) / np.exp(logits - logits.max(0)).sum(0)
        for row, column in zip(*np.nonzero(mask != IGNORED), strict=True):
            weight = weights[mask[row, column]]
            total -= weight * np.log(chances[mask[row, column], row, column])
            count += weight
    assert table["loss"] == pytest.approx(total / count, rel=1e-4)


def test_metrics_and_loss_of_several_classes_are_those_of_a_plain_loop(root, run):
    check_metrics(root, run, 1.0)


def test_so_they_are_with_weights_of_classes_and_all_diagnostics(root, tmp_path):
    flags = ["--loss", "cross_entropy", "--class-weights", "{apple: 4}", "--diagnostics", "light"]
    assert train(root, tmp_path / "run", *flags) == 0
    check_metrics(root, tmp_path / "run", 4.0)


def test_two_classes_have_one_output_and_the_metrics_of_a_plain_loop(tmp_path):
    root = write_set(tmp_path / "set", classes=2)
    assert train(root, tmp_path / "run", "--decoder", "fpn", "--diagnostics", "off") == 0
    table = {name: value for (_, loader, name), value in read_metrics(tmp_path / "run/metrics.csv").items()
             if loader == "valid"}  # fmt: skip
    held = [((logits[0] > 0).astype(int), (mask == 255).astype(int))
            for _, logits, mask in predictions(root, tmp_path / "run", decoder="fpn")]  # fmt: skip
    iou, accuracy = by_loop(held, 2)
    assert table["iou"] == pytest.approx(iou[1], abs=2e-4) and table["accuracy"] == pytest.approx(accuracy, abs=2e-4)
    assert {"loss_cross_entropy", "loss_dice"} <= table.keys()


def test_predicted_masks_have_the_size_of_each_image_and_the_colours_of_the_data_set(root, run, tmp_path):
    found = tmp_path / "found"
    assert main(["predict", str(run), "--input", str(root / "images"), "--output", str(found)]) == 0
    for name, logits, mask in predictions(root, run):
        with Image.open(found / name.replace("images/", "")) as file:
            assert file.size == mask.shape[::-1]
            assert file.getpalette()[:9] == [part for colour in PALETTE[:3] for part in colour]
            assert (np.asarray(file) == logits.argmax(0)).mean() > 0.99


def test_the_run_keeps_the_split_the_names_and_the_colours(run):
    held = json.loads((run / "data.json").read_text())
    assert held["described"].startswith("images/ and masks/ (those of classes.txt, 255 not counted): 10 images, 3 cl")
    assert held["class_names"] == ["ground", "apple", "leaf"] and held["palette"] == [list(one) for one in PALETTE[:3]]
    assert len(valid_files(run)) == 2
    masks = DataSummary.read(run / "data.json").masks
    assert masks is not None and {value: masks.class_of[value] for value in (0, 1, 2, IGNORED)} == {
        0: 0, 1: 1, 2: 2, IGNORED: IGNORED,
    }  # fmt: skip
    assert masks.names == ("ground", "apple", "leaf") and masks.palette.tolist() == held["palette"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--loss", "cross_entropy + dise"], "unknown loss 'dise'; did you mean 'dice'"),
        (["--backbone", "resnet19d"], "unknown backbone 'resnet19d'"),
        (["--decoder", "unett"], "unknown decoder 'unett'"),
        (["--loss", "focal", "--label-smoothing", "0.1"], "label_smoothing is for cross_entropy and bce"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(root, tmp_path, capsys, flags, line):
    assert train(root, tmp_path / "run", *flags) == 2
    assert line in capsys.readouterr().err


def test_a_folder_without_masks_is_one_line(tmp_path, capsys):
    (tmp_path / "set").mkdir()
    Image.new("RGB", (3, 3)).save(tmp_path / "set/1.jpg")
    assert train(tmp_path / "set", tmp_path / "run") == 2
    assert "has no layout for segment: looked for a table of images and masks (CSV)" in capsys.readouterr().err


def test_a_crop_is_predicted_as_a_whole_image_at_its_scale(root):
    experiment = Segment(backbone="test_resnet", image_size=32, resize="crop", data_dir=str(root))
    assert experiment.get_prediction().transform(image=np.zeros((64, 96, 3), np.uint8))["image"].shape == (3, 32, 48)


def test_a_loss_that_takes_no_weights_is_one_line(tmp_path):
    root = write_set(tmp_path / "set", classes=2)
    with pytest.raises(UsageError, match="weights of classes have no use in 'dice' of a single region"):
        Segment(data_dir=str(root), loss="dice", class_weights="balanced").get_criterion()
