"""Detection on pictures of one's own, as it is trained, on images small and few enough for a few seconds."""

import contextlib
import csv
import io
import json
import re
from pathlib import Path

import cv2
import huggingface_hub
import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from assay.callbacks import UsageError
from assay.experiments.detect import Detect
from assay.experiments.detectors import LOSSES
from assay.runner import load_checkpoint
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

SIZE = 64
FIELDS = {"image_size": SIZE, "channels": 32, "batch_size": 4, "epochs": 5, "valid_share": 0.25}
SIDES = [(96, 64), (64, 96), (48, 48), (80, 64)]
CATEGORIES = [{"id": 5, "name": "red"}, {"id": 9, "name": "green"}]


def draw(number):
    """Return an image with coloured rectangles, and left, top, width, height and category of each."""
    rng = np.random.default_rng(number)
    width, height = SIDES[number % len(SIDES)]
    image = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
    boxes = []
    for left in range(2, width - 24, 24):
        size = rng.integers(12, 20, 2)
        top = int(rng.integers(0, height - 20))
        kind = int(rng.integers(2))
        image[top : top + size[1], left : left + size[0], 2 - kind] = 220
        boxes.append((left, top, int(size[0]), int(size[1]), CATEGORIES[kind]["id"]))
    return image, boxes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    content = {"images": [], "annotations": [], "categories": CATEGORIES}
    for number in range(24):
        image, boxes = draw(number)
        cv2.imwrite(str(folder / f"{number:02d}.png"), image)
        height, width = image.shape[:2]
        content["images"].append({"id": number, "file_name": f"{number:02d}.png", "width": width, "height": height})
        boxes = boxes if number % 8 else []
        for left, top, *extent, category in boxes:
            area, crowd = extent[0] * extent[1], int(number % 8 == 3)
            one = {"image_id": number, "bbox": [left, top, *extent], "category_id": category, "area": area}
            content["annotations"].append({"id": len(content["annotations"]) + 1, "iscrowd": crowd, **one})
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """Train; return the run folder."""
    folder = tmp_path_factory.mktemp("run") / "detect"
    flags = [f"--{name}={value}" for name, value in FIELDS.items()]
    assert (
        main(
            [
                "train",
                "detect",
                f"--data-dir={data}",
                "--device=cpu",
                f"--run-dir={folder}",
                "--diagnostics=light",
                *flags,
            ]
        )
        == 0
    )
    return folder


def test_the_metrics_are_those_of_pycocotools_on_the_file_itself(run, data):
    experiment = Detect(data_dir=str(data), device="cpu", **FIELDS)
    experiment.run_folder = run
    model = experiment.get_model()
    model.load_state_dict(load_checkpoint(run, "last")["model"][""])
    model.eval()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(data / "boxes.json"))
        ids = {image["file_name"]: image for image in truth.dataset["images"]}
        found, images = [], []
        for batch in experiment.get_loaders()["valid"]:
            with torch.no_grad():
                outputs = model(batch["image"])["detections"]
            for name, output in zip(batch["sample_id"], outputs, strict=True):
                images.append(ids[name]["id"])
                found += in_pixels_of(ids[name], output)
        coco = COCOeval(truth, truth.loadRes(found), "bbox")
        coco.params.imgIds = images
        coco.evaluate()
        coco.accumulate()
        coco.summarize()
    table = read_metrics(run / "metrics.csv")
    last = FIELDS["epochs"], "valid"
    assert table[*last, "ap50"] > 0.02  # or else nothing would be compared
    assert table[*last, "map"] == pytest.approx(coco.stats[0], abs=1e-5)
    assert table[*last, "ap50"] == pytest.approx(coco.stats[1], abs=1e-5)
    assert table[*last, "ap75"] == pytest.approx(coco.stats[2], abs=1e-5)


def in_pixels_of(image, output):
    """Return detections in the square that the model saw as COCO has them, in pixels of the image."""
    width, height = image["width"], image["height"]
    scale = SIZE / max(width, height)
    shown = np.array([round(side * scale) for side in (width, height)] * 2)
    boxes = (output["boxes"].double().numpy() - (SIZE - shown) // 2) * ([width, height] * 2 / shown)
    for (left, top, right, bottom), label, score in zip(boxes, output["labels"], output["scores"], strict=True):
        yield {
            "image_id": image["id"], "category_id": CATEGORIES[label - 1]["id"], "score": float(score),
            "bbox": [left, top, right - left, bottom - top],
        }  # fmt: skip


def test_crowds_are_for_the_metrics_alone(run, data):
    loaders = Detect(data_dir=str(data), device="cpu", **FIELDS).get_loaders()
    assert all("iscrowd" not in target for batch in loaders["train"] for target in batch["target"])
    assert all("iscrowd" in target for batch in loaders["valid"] for target in batch["target"])


def test_the_run_says_what_the_data_is(run, capsys):
    data = json.loads((run / "data.json").read_text())
    assert (data["task"], data["class_names"]) == ("detection", ["background", "red", "green"])
    with open(run / "split.csv", newline="") as file:
        parts = [row["split"] for row in csv.DictReader(file)]
    assert (parts.count("train"), parts.count("valid")) == (18, 6)


def test_predicted_boxes_are_in_pixels_of_the_image_and_called_by_name(run, data, tmp_path):
    command = ["predict", str(run), f"--input={data}", f"--output={tmp_path}", "--device=cpu"]
    assert main(command) == 0
    with open(tmp_path / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} <= {"red", "green"}
    for row in rows:
        width, height = SIDES[int(row["image"].removesuffix(".png")) % len(SIDES)]
        left, top, right, bottom = (float(row[side]) for side in ("left", "top", "right", "bottom"))
        assert 0 <= left < right <= width and 0 <= top < bottom <= height


@pytest.mark.parametrize("detector", LOSSES)
def test_every_detector_learns_from_its_own_losses(detector, data):
    experiment = Detect(data_dir=str(data), detector=detector, **FIELDS)
    assert experiment.get_criterion() is None
    outputs = experiment.get_model()(
        torch.rand(2, 3, SIZE, SIZE), [next(iter(experiment.get_loaders()["train"]))["target"][0]] * 2
    )
    assert outputs.keys() == {term.output for term in experiment.get_losses()}


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"channels": 48}, "channels must be a multiple of 32, got 48"),
        ({"backbone": "resnet81"}, r"unknown backbone 'resnet81'; did you mean 'resnet"),
        ({"detector": "fcso"}, r"detector.*'fcso'.*did you mean 'fcos'"),
        ({"resize": "crop"}, "resize"),
        ({"pretrained": True}, "pretrained needs a backbone of timm, such as resnet50"),
    ],
    ids=["channels", "backbone", "detector", "resize", "pretrained"],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(UsageError, match=message):
        Detect(**fields)


def test_a_backbone_may_begin_with_the_weights_that_timm_has_for_it(data, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    experiment = Detect(data_dir=str(data), backbone="test_resnet", pretrained=True, **FIELDS)
    with pytest.raises(UsageError, match=r"fetch .*model\.safetensors and put it at") as error:
        experiment.get_model()
    path = Path(re.search(r"put it at (\S+) \(", str(error.value))[1])
    path.parent.mkdir(parents=True)
    weights = timm.create_model("test_resnet").state_dict()
    safetensors.torch.save_file(weights, path)
    body = experiment.get_model().net.backbone.body.state_dict()
    assert len(body) > 20
    assert all(torch.equal(value, weights[name]) for name, value in body.items())


def test_a_field_without_a_use_is_refused(data, tmp_path, capsys):
    flags = ["--class-weights=balanced", f"--run-dir={tmp_path / 'run'}"]
    assert main(["train", "detect", f"--data-dir={data}", *flags]) == 2
    assert "--class-weights has no use in 'detect'" in capsys.readouterr().err
