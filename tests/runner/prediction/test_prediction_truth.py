"""``assay predict --truth``: the truth of images is found in any layout, and scores are those of validation."""

import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score
from toys.labels import NAMES, Labels

from assay.runner import UsageError
from assay.runner.commands.evaluate import evaluate
from assay.runner.commands.main import main
from assay.runner.data.readers.masks.mask_classes import MaskClasses
from assay.runner.prediction import BoxPrediction, ClassPrediction, MaskPrediction
from assay.runner.prediction.classes import mean_logits
from assay.runner.prediction.inputs import find_inputs
from assay.runner.prediction.truth.reading import read_truth
from assay.runner.prediction.tta import Views
from assay.runner.saving.loggers import read_metrics


def classes(names=("cat", "dog"), **options):
    return ClassPrediction(class_names=names, transform=None, **options)


def inputs_of(folder, *names):
    """Write images and return them as ``assay predict`` finds them."""
    for name in names:
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20)).save(folder / "in" / name)
    return find_inputs([str(folder / "in")], folder / "out")


def table(folder, text):
    (folder / "truth.csv").write_text(text)
    return folder / "truth.csv"


def targets(truth):
    return {item["sample_id"]: item["target"] for item in truth.items}


@pytest.fixture
def validated(run_of, tmp_path, monkeypatch):
    """Write the validation samples of a run as files, with a table of their labels, and return its run folder."""
    monkeypatch.chdir(tmp_path)
    run = run_of("labels")
    Path("in").mkdir()
    with open("truth.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label"])
        for item in Labels().get_loaders()["valid"].dataset.items:
            Image.fromarray(item["image"]).save(f"in/{item['sample_id']}.png")
            writer.writerow([item["sample_id"], NAMES[item["target"]]])
    return run


def test_scores_of_the_validation_samples_are_those_of_evaluate(validated, capsys):
    expected = evaluate(validated)
    assert main(["predict", str(validated), "--input", "in", "--output", "out", "--truth", "truth.csv"]) == 0
    found = read_metrics(Path("out/scores/metrics.csv"))
    assert {name: value for (_, _, name), value in found.items()} == pytest.approx(expected.metrics, abs=1e-6)
    assert expected.metrics.keys() >= {"loss", "accuracy", "f1"}
    printed = capsys.readouterr().out
    assert "scores of 10 images with truth" in printed and f"  accuracy  {expected.metrics['accuracy']:.6g}" in printed
    assert sorted(path.name for path in Path("out").iterdir()) == ["predictions.csv", "scores"]


def test_images_without_truth_and_broken_ones_are_told_and_not_scored(validated, capsys):
    Image.new("RGB", (8, 8)).save("in/other.png")
    Path("in/15.png").write_bytes(b"broken")
    assert main(["predict", str(validated), "--input", "in", "--output", "out", "--truth", "truth.csv"]) == 1
    printed = capsys.readouterr().out
    assert "predicted 10 of 11 images" in printed and "1 could not be read" in printed
    assert "--truth: 1 of 11 images have none and are not scored: other.png" in printed


@pytest.mark.parametrize(
    "more",
    [["--tta", "d4"], ["--checkpoint", "best", "epoch-0001.pt"], ["--checkpoint", "best", "last", "--tta", "flips"]],
)
def test_scores_of_several_checkpoints_and_views_are_those_of_scikit_learn_on_their_mean(validated, more):
    assert main(["predict", str(validated), "--input", "in", "--output", "out", "--truth", "truth.csv", *more]) == 0
    rows = list(csv.DictReader(Path("out/predictions.csv").read_text().splitlines()))
    label_of = {
        row["id"]: NAMES.index(row["label"]) for row in csv.DictReader(Path("truth.csv").read_text().splitlines())
    }
    truth = [label_of[Path(row["image"]).stem] for row in rows]
    probabilities = np.array([[float(row[f"probability/{name}"]) for name in NAMES] for row in rows])
    chosen = probabilities.argmax(axis=1)
    found = {name: value for (_, _, name), value in read_metrics(Path("out/scores/metrics.csv")).items()}
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, chosen))
    assert found["f1"] == pytest.approx(f1_score(truth, chosen, average="macro", zero_division=0))
    assert found["loss"] == pytest.approx(-np.log(probabilities[range(len(rows)), truth]).mean(), abs=1e-5)


@pytest.mark.parametrize("multilabel", [True, False])
def test_logits_of_a_mean_give_the_mean_probabilities(multilabel):
    values = torch.tensor([[0.5, 0.25, 0.25], [1.0, 0.0, 0.0], [1e-6, 0.5, 0.499999]])
    spec = classes(["a", "b", "c"], multilabel=multilabel)
    models = SimpleNamespace(outputs=lambda _: [[values.logit() if multilabel else values.log()]], views=Views("none"))
    logits = mean_logits(models, spec, values)
    assert logits.isfinite().all()
    assert torch.allclose(spec.probabilities(logits), values, atol=1e-6)


def test_an_ensemble_of_masks_is_not_scored(run_of, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = run_of("masks")
    assert main(["predict", str(run), "--input", "in", "--output", "out", "--truth", "in", "--tta", "flips"]) == 2
    assert "--truth scores one checkpoint of a segmentation: leave out --tta and all others." in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("id,label\na,dog\nb,cat\n", {"a.png": 1, "deep/b.png": 0}),
        ("image;class\na.png;1\ndeep/b.png;0\n", {"a.png": 1, "deep/b.png": 0}),
        ("a.png,dog\nelsewhere.png,dog\n", {"a.png": 1}),
        ("file,cat,dog\na,0,1\nb,1,0\n", {"a.png": 1, "deep/b.png": 0}),
        ("x,y\nfolder/a.jpg,dog\n", {"a.png": 1}),
    ],
)
def test_labels_are_read_by_name_or_number(tmp_path, text, found):
    images = inputs_of(tmp_path, "a.png", "deep/b.png")
    assert targets(read_truth(table(tmp_path, text), classes(), images)) == found


def test_several_labels_are_flags_in_the_models_order(tmp_path):
    images = inputs_of(tmp_path, "a.png", "b.png", "c.png")
    truth = read_truth(
        table(tmp_path, "image,labels\na,dog|cat\nb,\nc,dog\n"), classes(multilabel=True), images
    )  # fmt: skip
    assert {name: it.tolist() for name, it in targets(truth).items()} == {
        "a.png": [1, 1],
        "b.png": [0, 0],
        "c.png": [0, 1],
    }
    columns = read_truth(table(tmp_path, "image,dog,cat\na,1,0\nb,0,0\n"), classes(multilabel=True), images)
    assert {name: it.tolist() for name, it in targets(columns).items()} == {"a.png": [0, 1], "b.png": [0, 0]}
    for cells in ('"cat, dog"', "dog cat", "\"['dog', 'cat']\""):
        read = targets(read_truth(table(tmp_path, f"image,labels\na,{cells}\nb,\n"), classes(multilabel=True), images))
        assert {name: it.tolist() for name, it in read.items()} == {"a.png": [1, 1], "b.png": [0, 0]}
    marks = read_truth(table(tmp_path, "image,dog,cat\na,x,\nb,,\n"), classes(multilabel=True), images)
    assert {name: it.tolist() for name, it in targets(marks).items()} == {"a.png": [0, 1], "b.png": [0, 0]}
    single = read_truth(table(tmp_path, "image,label\na,1\nb,no\nc,dog\n"), classes(["dog"]), images)
    assert targets(single) == {"a.png": 1.0, "b.png": 0.0, "c.png": 1.0}


def test_a_number_is_no_place_among_classes_that_are_called_by_numbers(tmp_path):
    images = inputs_of(tmp_path, "a.png")
    assert targets(read_truth(table(tmp_path, "id,label\na,2\n"), classes(["1", "2", "3"]), images)) == {"a.png": 1}
    with pytest.raises(UsageError, match="the model does not know the class '0'"):
        read_truth(table(tmp_path, "id,label\na,0\n"), classes(["1", "2", "3"]), images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,label\na,bird\n", "truth.csv, line 2: the model does not know the class 'bird'; it knows 'cat', 'dog'."),
        ("id,label\na,2\n", "truth.csv, line 2: the model does not know the class '2'"),
        ("id,cat,dog\na,1,1\n", "truth.csv, line 2: an image is of one class here, got 2."),
        ("id,cat,dog\na,1,maybe\n", "truth.csv, line 2: a class is 0 or 1, got 'maybe'."),
        ("id,width,height\na,1,2\n", "no column holds labels"),
        ("id,label\nz,cat\n", "names none of the 1 images of --input, by path or by name."),
        ("id,label\na,\n", "names none of the 1 images"),
    ],
)
def test_a_table_that_does_not_fit_is_told_by_its_line(tmp_path, text, message):
    with pytest.raises(UsageError) as error:
        read_truth(table(tmp_path, text), classes(), inputs_of(tmp_path, "a.png"))
    assert message in str(error.value)


def test_a_name_of_several_images_is_not_guessed(tmp_path):
    images = inputs_of(tmp_path, "x/a.png", "y/a.png", "b.png")
    truth = read_truth(table(tmp_path, "id,label\na,dog\ny/a,cat\nb,dog\n"), classes(), images)
    assert targets(truth) == {"y/a.png": 0, "b.png": 1}
    assert truth.notes == ["--truth: 1 of 3 images have none and are not scored: x/a.png"]


def test_masks_are_found_by_stem(tmp_path):
    images = inputs_of(tmp_path, "a.png", "deep/b.png", "c.png")
    for number, name in enumerate(("a_mask.png", "deep/b.tif")):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (30, 20), 255 * number).save(tmp_path / "masks" / name)
    truth = read_truth(tmp_path / "masks", MaskPrediction(), images)
    assert {name: set(mask.ravel()) for name, mask in targets(truth).items()} == {"a.png": {0}, "deep/b.png": {1}}
    assert truth.notes == ["--truth: 1 of 3 images have none and are not scored: c.png"]
    with pytest.raises(UsageError, match=r"the classes of the masks are .*, those of the model ground, house, sky"):
        read_truth(tmp_path / "masks", MaskPrediction(class_names=["ground", "house", "sky"]), images)
    for names in (["ground", "house"], ["sky", "house"]):  # without a file, and then with one
        again = read_truth(tmp_path / "masks", MaskPrediction(class_names=names), images)
        assert targets(again)["deep/b.png"].max() == 1
        (tmp_path / "masks" / "classes.txt").write_text("sky\nhouse\n")


@pytest.mark.parametrize("layout", ["a folder of masks", "images and masks", "a table"])
def test_masks_mean_what_they_mean_in_training(tmp_path, layout):
    images = inputs_of(tmp_path, "a.png", "b.png")
    (tmp_path / "set/masks").mkdir(parents=True)
    for name, value in (("a", 0), ("b", 255)):
        Image.new("L", (30, 20), value).save(tmp_path / f"set/masks/{name}.png")
    path = tmp_path / "set/masks"
    if layout == "images and masks":
        shutil.copytree(tmp_path / "in", tmp_path / "set/images")
        path = tmp_path / "set"
    if layout == "a table":
        path = table(tmp_path, "image,mask\nin/a.png,set/masks/a.png\nin/b.png,set/masks/b.png\n")
    trained = MaskClasses(("ground", "house"), {0: 0, 1: 1, 255: 255}, False, None, "0 and 1, 255 not counted")
    truth = read_truth(path, MaskPrediction(class_names=trained.names, masks=trained), images)
    assert {name: set(mask.ravel()) for name, mask in targets(truth).items()} == {"a.png": {0}, "b.png": {255}}


def test_boxes_of_a_coco_file_get_the_models_class_numbers(tmp_path):
    images = inputs_of(tmp_path, "a.png", "b.png")
    coco = {
        "images": [{"id": n, "file_name": f"{name}.png", "width": 30, "height": 20} for n, name in enumerate("ab", 1)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 10, 5], "area": 50, "iscrowd": 0}],
    }  # fmt: skip
    (tmp_path / "in" / "truth.json").write_text(json.dumps(coco))
    prediction = BoxPrediction(class_names=["background", "bird", "dog", "cat"], transform=None)
    truth = read_truth(tmp_path / "in" / "truth.json", prediction, images)
    assert [item["labels"].tolist() for item in truth.items] == [[2], []]
    np.testing.assert_allclose(truth.items[0]["bboxes"], [[1, 2, 11, 7]])
    few = BoxPrediction(class_names=["background", "cat"], transform=None)
    with pytest.raises(UsageError, match="the model does not know 'dog'; it knows 'background', 'cat'"):
        read_truth(tmp_path / "in" / "truth.json", few, images)


def test_boxes_without_a_class_are_of_the_only_one_that_the_model_has(tmp_path):
    images = inputs_of(tmp_path, "a.png", "b.png")
    table = tmp_path / "in" / "boxes.csv"
    table.write_text("image,xmin,ymin,xmax,ymax\na.png,1,2,11,7\nb.png,,,,\n")
    truth = read_truth(table, BoxPrediction(class_names=["background", "head"], transform=None), images)
    assert [item["labels"].tolist() for item in truth.items] == [[1], []]
    with pytest.raises(UsageError, match="the model does not know 'object'"):
        read_truth(table, BoxPrediction(class_names=["background", "cat", "dog"], transform=None), images)


@pytest.mark.long("trains a detector on a few images")
def test_boxes_of_the_validation_samples_get_the_scores_of_evaluate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng, rows = np.random.default_rng(0), ["image,xmin,ymin,xmax,ymax,label"]
    Path("photos").mkdir()
    for number in range(12):
        picture = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
        left, top = rng.integers(4, 30, 2)
        picture[top : top + 14, left : left + 20] += 150
        Image.fromarray(picture).save(f"photos/{number}.png")
        rows.append(f"{number}.png,{left},{top},{left + 20},{top + 14},{('cat', 'dog')[number % 2]}")
    Path("photos/boxes.csv").write_text("\n".join(rows) + "\n")
    options = [
        "--data-dir",
        "photos",
        "--image-size",
        "64",
        "--epochs",
        "3",
        "--device",
        "cpu",
        "--diagnostics",
        "light",
    ]
    assert main(["train", "detect", "--run-dir", "run", *options]) == 0
    expected = evaluate("run").metrics
    with open("run/split.csv", newline="") as file:
        valid = [f"photos/{Path(row['image']).name}" for row in csv.DictReader(file) if row["split"] == "valid"]
    assert len(valid) >= 2
    assert main(["predict", "run", "--input", *valid, "--output", "out", "--truth", "photos/boxes.csv"]) == 0
    found = read_metrics(Path("out/scores/metrics.csv"))
    assert {name: value for (_, _, name), value in found.items()} == pytest.approx(expected, abs=1e-6)
