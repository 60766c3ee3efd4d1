"""The wheat experiment as it is trained, on images small and few enough for a few seconds."""

import dataclasses
import json

import pytest
import torch
import yaml
from kit import read_events

from assay.callbacks import BoxCurves, UsageError
from assay.callbacks.measures.box_precision import box_precision
from assay.callbacks.measures.coco_precision import coco_precision, pack
from assay.experiments.detectors import LOSSES
from assay.experiments.wheat import Wheat
from assay.experiments.wheat.generator import make_data
from assay.runner import load_checkpoint, read_box_table
from assay.runner.commands.experiment_flags import parse_experiment
from assay.runner.commands.main import main
from assay.runner.experiment import Experiment
from assay.runner.saving.loggers import read_metrics

FIELDS = {"image_size": 64, "channels": 32, "batch_size": 3}
EPOCHS = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, count=26, size=64)
    return folder


@pytest.fixture(scope="module")
def wheat(data, tmp_path_factory):
    """Train for two epochs; return the run folder."""
    folder = tmp_path_factory.mktemp("run") / "wheat"
    flags = [f"--{name}={value}" for name, value in FIELDS.items()]
    command = ["train", "wheat", f"--data-dir={data}", f"--epochs={EPOCHS}", "--device=cpu", f"--run-dir={folder}"]
    code = main([*command, "--min-score=0.05", *flags])
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def table(wheat):
    return read_metrics(wheat / "metrics.csv")


def test_training_logs_each_loss_of_the_detector_and_their_sum(table):
    for epoch in range(1, EPOCHS + 1):
        terms = [table[epoch, "train", f"loss_{name}"] for name in LOSSES["fcos"]]
        assert table[epoch, "train", "loss"] == pytest.approx(sum(terms), rel=1e-5)


def test_validation_has_the_metrics_of_boxes_and_no_loss(table):
    names = {name for epoch, loader, name in table if (epoch, loader) == (EPOCHS, "valid")}
    of_boxes = {"box_f1/head", *BoxCurves.own_metrics}
    assert names == {"ap50", "ap75", "map", "map_small", "map/head", "ap50/head", "competition_map"} | of_boxes


def test_the_metrics_are_those_that_a_plain_loop_finds(wheat, data, table):
    experiment = Wheat(data_dir=str(data), device="cpu", **FIELDS)
    model = experiment.get_model()
    model.load_state_dict(load_checkpoint(wheat, "last")["model"][""])
    model.eval()
    found, true = [], []
    for batch in experiment.get_loaders()["valid"]:
        with torch.no_grad():
            found += model(batch["image"])["detections"]
        true += batch["target"]
    coco = coco_precision([(pack(found), pack(true))])
    expected = {"map": coco.overall.map, "map/head": coco.by_label[1].map, "ap50": coco.overall.ap50}
    expected["competition_map"] = box_precision(found, true, min_score=0.05).nanmean().item()
    for name, value in expected.items():
        assert table[EPOCHS, "valid", name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def test_every_epoch_shows_the_best_and_the_worst_batches_and_images_by_their_precision(wheat):
    events = read_events(wheat / "valid")
    groups = ("9_batches/best", "9_batches/worst", "6_samples/best", "1_overview/worst")
    tags = {f"{group}/competition_map" for group in groups}
    of_boxes = {"2_confusion_matrix", "5_predictions/precision_recall", "5_predictions/by_confidence"}
    assert set(events.Tags()["images"]) >= tags | of_boxes
    for tag in tags | of_boxes:
        assert [picture.step for picture in events.Images(tag)] == [1, 2], tag
    assert [point.step for point in events.Scalars("1_overview/metrics/ap50")] == [1, 2]


def test_images_with_their_truth_are_batched_as_for_validation(data):
    items = read_box_table(data)
    expected = {item["sample_id"]: item["bboxes"] for item in items}
    found = {}
    for batch in Wheat(data_dir=str(data), **FIELDS).get_truth_loader(items):
        assert batch["image"].shape[1:] == (3, 64, 64)
        found |= dict(zip(batch["sample_id"], (target["boxes"] for target in batch["target"]), strict=True))
    assert found.keys() == expected.keys() and len(found) == 26
    for name, boxes in expected.items():
        torch.testing.assert_close(found[name], torch.as_tensor(boxes), msg=name)


def test_training_shows_its_boxes_and_its_gradients(wheat):
    events = read_events(wheat / "train")
    shown = {"3_metrics/curves", "8_data/augmentations", "8_data/statistics", "9_gradients/map", "9_gradients/flow"}
    assert set(events.Tags()["images"]) >= shown


def test_data_of_ones_own_is_not_noted_as_generated(wheat):
    assert json.loads((wheat / "environment.json").read_text())["generated"] is False
    assert Wheat().generated


def test_a_table_with_nothing_to_learn_from_ends_the_command_with_one_line(data, tmp_path, capsys):
    (tmp_path / "train.csv").write_text('image_id,width,height,bbox,source\na,64,64,"[1, 2, 0, 4]",f\n')
    assert main(["train", "wheat", f"--data-dir={tmp_path}", f"--run-dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error
    assert "0 boxes of 0 images in the files; the first problem: train.csv, line 2: a is not there" in error


def test_off_leaves_the_metrics_that_checkpoints_are_chosen_by():
    assert [type(one).__name__ for one in Wheat(diagnostics="off").get_callbacks()] == ["BoxMetrics"]


def test_every_detector_is_trained_by_its_own_losses():
    for name, losses in LOSSES.items():
        experiment = Wheat(detector=name, **FIELDS)
        assert len(experiment.get_losses()) == len(losses)
        assert experiment.get_criterion() is None
        assert isinstance(experiment, Experiment)


def of_a_run():
    """The fields of a run of before, which watched another figure."""
    fields = dataclasses.asdict(Wheat(monitor=["valid/ap50:max"]))
    del fields["map_is"]
    return fields


@pytest.mark.parametrize(
    ("fields", "map_is"),
    [
        ({"monitor": ["valid/ap50:max", "valid/map:max"]}, "competition"),
        (of_a_run(), "competition"),
        ({"monitor": ["valid/map:max"], "map_is": "coco"}, "coco"),
        ({"monitor": ["valid/ap50:max"]}, "coco"),
        ({"epochs": 3}, "coco"),
    ],
    ids=["watches map", "of a run", "says it", "does not watch map", "of one field"],
)
def test_a_config_of_before_keeps_what_map_is(tmp_path, fields, map_is):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(fields))
    experiment, _ = parse_experiment(Wheat, "wheat", ["--config", str(tmp_path / "config.yaml")])
    assert experiment.map_is == map_is
    flag = ["--map-is", "coco"]
    assert parse_experiment(Wheat, "wheat", ["--config", str(tmp_path / "config.yaml"), *flag])[0].map_is == "coco"


@pytest.mark.long("trains a detector, and goes on with it")
def test_a_run_of_before_goes_on_with_its_names_and_says_so(data, tmp_path, caplog):
    flags = [f"--{name}={value}" for name, value in FIELDS.items()]
    command = ["train", "wheat", f"--data-dir={data}", "--device=cpu", "--diagnostics=light", "--scheduler=none"]
    folder = tmp_path / "run"
    assert (
        main([*command, f"--run-dir={folder}", *flags, "--epochs=1", "--limit-batches=2", "--map-is=competition"]) == 0
    )
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config.pop("map_is") == "competition"
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    caplog.clear()
    assert main(["train", "wheat", f"--resume={folder}", "--epochs=2"]) == 0
    table = read_metrics(folder / "metrics.csv")
    for epoch in (1, 2):
        names = {name for of, loader, name in table if (of, loader) == (epoch, "valid")}
        assert names - {"ap75", "ap50/head"} == {"ap50", "map", "coco_map", "coco_map_small", "coco_map/head"}
    assert "map is the competition's figure in this one" in caplog.text


def test_an_unknown_detector_is_named():
    with pytest.raises(UsageError, match=r"detector.*'fcso'.*did you mean 'fcos'"):
        Wheat(detector="fcso")


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("image_size", 16, "image_size must be at least 32, got 16"),
        ("min_score", -1.0, "min_score must be at least 0"),
        ("channels", 48, "channels must be a multiple of 32, got 48"),
    ],
)
def test_a_field_out_of_range_is_named(field, value, message):
    with pytest.raises(UsageError, match=message):
        Wheat(**{field: value})


def test_prediction_takes_images_of_any_size_without_padding_them():
    prediction = Wheat(image_size=64).get_prediction()
    image = torch.zeros(50, 100, 3, dtype=torch.uint8).numpy()
    assert prediction.transform(image=image)["image"].shape == (3, 32, 64)
    assert (prediction.task, prediction.output_key) == ("detection", "detections")
