"""The experiment classify, as a user runs it on files of each kind of target."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score

from assay.callbacks import UsageError
from assay.experiments.classify import Classify
from assay.runner import load_checkpoint
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SIDE, COUNT = 16, 40
QUICK = ["--epochs", "2", "--batch-size", "8", "--image-size", str(SIDE), "--width", "4", "--device", "cpu"]
TASKS = ["multiclass", "multilabel", "binary"]


def write_images(folder):
    """Write noise whose red is strong for odd numbers and whose blue is strong for multiples of three."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        pixels = rng.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[..., 0] += 120 * (number % 2)
        pixels[..., 2] += 120 * (number % 3 == 0)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")


def write_data(folder, task):
    """Write the images with targets of a task; return what ``--data-dir`` is to be."""
    write_images(folder / "all")
    if task == "multiclass":
        for number in range(COUNT):
            target = folder / ["plain", "red", "blue"][2 if number % 3 == 0 else number % 2]
            target.mkdir(exist_ok=True)
            (folder / f"all/{number:02d}.png").rename(target / f"{number:02d}.png")
        (folder / "all").rmdir()
        return folder
    columns = {"multilabel": ["red", "blue"], "binary": ["red"]}[task]
    with open(folder / "labels.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", *columns])
        for number in range(COUNT):
            table.writerow([f"all/{number:02d}.png", *[number % 2, int(number % 3 == 0)][: len(columns)]])
    return folder / "labels.csv"


@pytest.fixture(scope="module", params=TASKS)
def run(request, tmp_path_factory):
    """Train on data of a task; return the task, what ``--data-dir`` was, and the run folder."""
    folder = tmp_path_factory.mktemp(request.param)
    data = write_data(folder / "data", request.param)
    flags = [*QUICK, "--diagnostics", "off", "--augmentation", "hard"]
    assert main(["train", "classify", "--data-dir", str(data), "--run-dir", str(folder / "run"), *flags]) == 0
    return request.param, data, folder / "run"


def outputs(run, model, paths):
    """Return the model's outputs for image files, read and normalized without assay."""
    images = [(np.asarray(Image.open(path), dtype=np.float64) / 255 - MEAN) / STD for path in paths]
    with torch.no_grad():
        return model(torch.tensor(np.stack(images)).permute(0, 3, 1, 2).float())["logits"].double().numpy()


def trained(run):
    _, data, folder = run
    experiment = Classify(data_dir=str(data), image_size=SIDE, width=4)
    model = experiment.get_model()
    model.load_state_dict(load_checkpoint(folder)["model"][""])
    return experiment, model.eval()


def held_out(folder):
    with open(folder / "split.csv", newline="") as file:
        return [row["image"] for row in csv.DictReader(file) if row["split"] == "valid"]


def test_metrics_are_those_of_scikit_learn_on_the_same_files(run):
    task, data, folder = run
    root = data if data.is_dir() else data.parent
    names = held_out(folder)
    experiment, model = trained(run)
    logits = outputs(run, model, [root / name for name in names])
    numbers = [int(Path(name).stem) for name in names]
    truth = np.array([[number % 2, number % 3 == 0] for number in numbers]).astype(int)
    if task == "multiclass":
        assert experiment.class_names == ("blue", "plain", "red")
        truth = np.where(truth[:, 1] == 1, 0, 1 + truth[:, 0])
        accuracy, f1 = accuracy_score(truth, logits.argmax(1)), f1_score(truth, logits.argmax(1), average="macro")
    elif task == "multilabel":
        accuracy, f1 = ((logits > 0) == truth).mean(), f1_score(truth, logits > 0, average="macro", zero_division=0)
    else:
        truth = truth[:, 0]
        accuracy, f1 = accuracy_score(truth, logits > 0), f1_score(truth, logits > 0, zero_division=0)
    found = read_metrics(folder / "metrics.csv")
    assert found[2, "valid", "accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert found[2, "valid", "f1"] == pytest.approx(f1, abs=1e-6)
    if task == "multiclass":
        shifted = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        loss = -shifted[range(len(truth)), truth].mean()
    else:
        loss = np.mean(np.logaddexp(0, logits) - logits * truth)
    assert found[2, "valid", "loss"] == pytest.approx(loss, abs=1e-5)


def test_a_run_is_evaluated_and_predicts_files(run, tmp_path):
    task, _, folder = run
    assert main(["evaluate", str(folder), "--checkpoint", "last"]) == 0
    again = read_metrics(folder / "evaluate/valid-last/metrics.csv")
    before = read_metrics(folder / "metrics.csv")
    assert again == pytest.approx({key: before[key] for key in again}, abs=1e-6)
    write_images(tmp_path / "new")
    flags = ["--checkpoint", "last", "--input", str(tmp_path / "new"), "--output", str(tmp_path / "out")]
    assert main(["predict", str(folder), *flags]) == 0
    with open(tmp_path / "out/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    experiment, model = trained(run)
    logits = outputs(run, model, [tmp_path / "new" / row["image"] for row in rows]).reshape(COUNT, -1)
    if task == "multiclass":
        expected = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
    else:
        expected = 1 / (1 + np.exp(-logits))
    names = experiment.class_names[1:] if task == "binary" else experiment.class_names
    found = [[float(row[f"probability/{name}"]) for name in names] for row in rows]
    assert np.allclose(found, expected, atol=1e-5)


def test_every_picture_is_drawn(tmp_path):
    data = write_data(tmp_path / "data", "multiclass")
    flags = [*QUICK, "--loss", "focal + 0.5*bce", "--class-weights", "balanced", "--limit-batches", "1"]
    assert main(["train", "classify", "--data-dir", str(data), "--run-dir", str(tmp_path / "run"), *flags]) == 0
    assert list((tmp_path / "run/results").rglob("*.png"))


@pytest.mark.parametrize("backbone", ["resnet10t", "convnext_atto", "vit_tiny_patch16_224"])
def test_any_backbone_of_timm_takes_any_size(tmp_path, backbone):
    data = write_data(tmp_path / "data", "multiclass")
    experiment = Classify(data_dir=str(data), image_size=64, backbone=backbone)
    model = experiment.get_model().eval()
    assert model(torch.zeros(2, 3, 64, 64))["logits"].shape == (2, 3)


def test_images_are_normalized_as_the_weights_of_the_backbone_expect(tmp_path):
    data = write_data(tmp_path / "data", "multiclass")
    items = (
        Classify(data_dir=str(data), image_size=SIDE, backbone="vit_tiny_patch16_224").get_loaders()["valid"].dataset
    )
    raw = np.asarray(Image.open(items.items[0]["image"]), dtype=np.float64)
    assert np.allclose(items[0]["image"].permute(1, 2, 0).numpy(), (raw / 255 - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"backbone": "resnet19"}, r"unknown backbone 'resnet19'; did you mean 'resnet1\d.*'\?"),
        ({"pretrained": True}, "pretrained needs a backbone of timm, such as resnet18"),
        ({"loss": "focus"}, "unknown loss 'focus'"),
        ({"label_smoothing": 1.0}, "label_smoothing must be"),
        ({"mixup": -0.1}, "mixup must be at least 0, got -0.1"),
        (
            {"cutmix": 1.0, "loss": "bce + lovasz"},
            "mixup and cutmix give shares of classes, which lovasz does not take",
        ),
    ],
)
def test_a_wrong_field_is_refused(fields, message):
    with pytest.raises(UsageError, match=message):
        Classify(data_dir="x", **fields)


@pytest.mark.parametrize("task", TASKS)
def test_mixed_images_keep_the_class_or_the_labels_of_their_file(task, tmp_path):
    data = write_data(tmp_path / "data", task)
    flags = [*QUICK, "--diagnostics", "off", "--label-smoothing", "0.1", "--class-weights", "balanced"]
    mixing = ["--mixup", "0.4", "--cutmix", "1", "--augmentation", "none"]
    assert (
        main(["train", "classify", "--data-dir", str(data), "--run-dir", str(tmp_path / "run"), *flags, *mixing]) == 0
    )
    experiment = Classify(data_dir=str(data), image_size=SIDE, width=4, batch_size=8, mixup=0.4, cutmix=1.0)
    batches = list(experiment.get_loaders()["train"])
    shares = torch.cat([batch["target"] for batch in batches])
    assert ((shares > 0) & (shares < 1)).any()
    numbers = [int(Path(one).stem) for batch in batches for one in batch["sample_id"]]
    red, blue = (torch.tensor([number % step == rest for number in numbers]) for step, rest in ((2, 1), (3, 0)))
    if task == "multiclass":  # blue, plain, red
        truth = torch.where(blue, 0, torch.where(red, 2, 1))
        assert shares.sum(1).allclose(torch.ones(len(numbers)))
        assert torch.equal(shares.argmax(1), truth)
    else:
        truth = torch.stack([red, blue], 1) if task == "multilabel" else red
        assert torch.equal(shares > 0.5, truth)
    # On the training part itself, not mixed: as a loop over the files finds it.
    assert main(["evaluate", str(tmp_path / "run"), "--loader", "train", "--checkpoint", "last"]) == 0
    run = task, data, tmp_path / "run"
    with open(tmp_path / "run/split.csv", newline="") as file:
        names = [row["image"] for row in csv.DictReader(file) if row["split"] == "train"]
    root = data if data.is_dir() else data.parent
    logits = outputs(run, trained(run)[1], [root / name for name in names])
    numbers = np.array([int(Path(name).stem) for name in names])
    red, blue = numbers % 2 == 1, numbers % 3 == 0
    if task == "multiclass":
        right = logits.argmax(1) == np.where(blue, 0, np.where(red, 2, 1))
    else:
        right = (logits > 0) == (np.stack([red, blue], 1) if task == "multilabel" else red)
    found = read_metrics(tmp_path / "run/evaluate/train-last/metrics.csv")
    assert found[2, "train", "accuracy"] == pytest.approx(right.mean(), abs=1e-6)


def test_cross_entropy_is_not_for_labels(tmp_path):
    data = write_data(tmp_path / "data", "multilabel")
    with pytest.raises(UsageError, match="for multilabel take bce"):
        Classify(data_dir=str(data), loss="cross_entropy").get_criterion()


def test_columns_of_a_table_can_be_named(tmp_path):
    data = write_data(tmp_path / "data", "multilabel")
    experiment = Classify(data_dir=str(data), label_columns=["blue"], image_column="image")
    assert (experiment.task, experiment.class_names) == ("binary", ("no blue", "blue"))
    data = write_data(tmp_path / "folders", "multiclass")
    with pytest.raises(UsageError, match="has no use for 'label_columns'"):
        _ = Classify(data_dir=str(data), label_columns=["blue"]).class_names


def test_a_single_class_is_refused(tmp_path):
    write_images(tmp_path / "all")
    (tmp_path / "labels.csv").write_text("image,label\nall/01.png,cat\nall/02.png,cat\n")
    with pytest.raises(UsageError, match="a classifier needs two classes, and the data set has 'cat' alone"):
        Classify(data_dir=str(tmp_path / "labels.csv")).get_model()
