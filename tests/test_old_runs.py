"""Runs of former versions go on with this one, within an epoch too, and come to the numbers of those versions.

``old_runs/runs.tar.xz`` holds what ``old_runs/write.py`` has written with each version: runs that ended early, and in
``numbers.json`` what a run that nobody interrupted has logged.
"""

import json
import re
import tarfile
from pathlib import Path

import pytest
from old_runs.write import EveryMeasure, numbers_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from assay.runner import load_checkpoint, train

RUNS = Path(__file__).parent / "old_runs" / "runs.tar.xz"

# What is logged since, beside what was.
OF_BOXES = ("ap75", "ap50/1", "map_small")  # average precision by class and size
OF_HISTORY = ("2_suspects/", "9_history/")
ADDED = {"c625354": ("coco_map/1", *OF_BOXES, *OF_HISTORY), "d862b3f": (*OF_BOXES, *OF_HISTORY)}
# COCO's metrics, for which both versions took levels of recall in single precision: 3 of 20 boxes were less than 0.15.
COCO = re.compile(r"\b(ap50|coco_map|map)\b")
# Counted in bins by both versions, with bounds of up to 0.0092 on the error; now exact for so few samples.
OF_SCORES = re.compile(r"(?<!_)\b(average_precision|roc_auc)\b")
TABLE_OF_SCORES = "4_metrics_per_class/curves/"


@pytest.fixture(scope="module")
def old_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(RUNS) as archive:
        archive.extractall(folder, filter="data")
    return folder


# What tags began with, or were, and what they are called now; of the rest of the metrics, see ``present``.
RENAMED = {
    "gradients/": "9_gradients/",
    "optimizer/": "9_optimizer/",
    "best/": "10_best/",
    "most_confused/": "2_confusion_matrix/most_confused/",
    "pr_table/": "4_metrics_per_class/curves/",
    "iou_by_image/": "3_metrics/iou_by_image/",
}
MINOR = {
    "average_precision", "roc_auc", "false_negative_rate", "false_positive_rate", "loss_classes", "loss_mask",
    "boundary_iou", "iou_per_image", "dice_per_image", "competition_map",
}  # fmt: skip


def present(key):
    """Return the loader, tag and step that a point of a former version would have now."""
    loader, tag, step = key.split(" ")
    name, _, kind = tag.rpartition("/")
    for former, new in RENAMED.items():
        if tag.startswith(former):
            return f"{loader.replace('run', 'train')} {tag.replace(former, new, 1)} {step}"
    if kind == "batch":
        return f"{loader} 9_by_samples_seen/{name} {step}"
    if kind == "text_summary":
        tags = {"report": ("3_report", "1_overview/report")}
        tags["samples/ids/loss"] = ("6_sample_ids/loss", "1_overview/sample_ids/loss")
        return f"{loader} {tags[name][loader == 'valid']}/{kind} {step}"
    group = "9_bounds" if name.endswith("_bound") else "3_metrics" if name in MINOR else "1_overview/metrics"
    group = "4_metrics_per_class" if "/" in name else group
    return f"{loader} {'1_overview' if name == 'loss' else group}/{name} {step}"


def is_of(key, names):
    return any(name in key for name in names)


def near(key, value, rel, **options):
    """Return what equals a former value of a row or of a tag."""
    # The gradient of this bias is 0 but for rounding, as a normalization follows, and Adam makes steps of its sign.
    if "features.0.bias/update_ratio" in key:
        return pytest.approx(value, rel=1)
    if OF_SCORES.search(key):
        return pytest.approx(value, abs=0.0092, nan_ok=True)
    return pytest.approx(value, rel=0.03 if COCO.search(key) else rel, nan_ok=True, **options)


def is_near(new, former):
    try:
        return abs(float(new) - float(former)) < 0.0093
    except ValueError:
        return new == former


def rows_of(text):
    """Return the rows of a table, which were in the order of the classes and now begin with the worst, by name."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    return {row[0]: row[1:] for row in rows}


LONG = pytest.mark.long(
    "trains with all measures from another moment of the run; each version and moment of an epoch is tried"
)


# A run goes on within its second epoch, of which each of its points comes anew, or after it.
@pytest.mark.parametrize(
    ("version", "moment", "first"),
    [
        ("c625354", "train", 2),
        pytest.param("c625354", "valid", 2, marks=LONG),
        pytest.param("c625354", "epoch", 3, marks=LONG),
        pytest.param("d862b3f", "train", 2, marks=LONG),
        ("d862b3f", "valid", 2),
        pytest.param("d862b3f", "epoch", 3, marks=LONG),
    ],
)
def test_a_run_of_a_former_version_goes_on_to_the_numbers_of_that_version(old_runs, version, moment, first):
    run = old_runs / version / moment
    assert (load_checkpoint(run)["unfinished"] is None) == (moment == "epoch")
    train(EveryMeasure(newer=version != "c625354"), name="every_measure", resume=run)
    expected, found = json.loads((old_runs / version / "numbers.json").read_text()), numbers_of(run)
    for kind, of in found.items():
        found[kind] = {key: value for key, value in of.items() if not is_of(key, (*ADDED[version], "_bound"))}
        expected[kind] = {key: value for key, value in expected[kind].items() if "_bound" not in key}
    # Weighted sums of terms are in float64 since c625354, which changes a loss by 1e-8. The numbers are of another
    # processor, whose rounding grows to 1e-4 in three epochs.
    assert found["rows"] == {key: near(key, value, 5e-4) for key, value in expected["rows"].items()}

    for kind in ("scalars", "texts"):
        expected[kind] = {present(key): value for key, value in expected[kind].items()}

    # Its events are only of what came after: of an epoch all, of a batch those of later ones.
    def came_after(key):
        loader, tag, step = key.split(" ")
        trained = loader == "train" and moment == "valid"
        return not tag.startswith("9_by_samples_seen/") and int(step) >= first + trained

    for kind in ("scalars", "texts"):
        epochs = {key: value for key, value in expected[kind].items() if came_after(key)}
        assert epochs and found[kind].keys() >= epochs.keys()
    assert found["scalars"] == {key: near(key, expected["scalars"][key], 5e-4, abs=1e-6) for key in found["scalars"]}
    for key, text in found["texts"].items():
        new, former = rows_of(text), rows_of(expected["texts"][key])
        if TABLE_OF_SCORES in key:
            # Average precision, and positives and negatives.
            new, former = ({name: [*row[:1], *row[-2:]] for name, row in of.items()} for of in (new, former))
            for name, row in former.items():
                row[0] = new[name][0] if is_near(new[name][0], row[0]) else row[0]
        assert new == former


def test_a_run_of_a_former_version_keeps_its_event_folders_and_says_that_its_tags_are_new(tmp_path, caplog):
    with tarfile.open(RUNS) as archive:  # not those that the test above has gone on with
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / "c625354" / "epoch"
    sizes = load_checkpoint(run)["loggers"]["tensorboard"]
    assert {name.split("/")[0] for name in sizes} == {"run", "train", "valid"}
    for name, size in sizes.items():
        path = run / "tensorboard" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(size + 100))  # written after the checkpoint
    own = run / "mine" / "events.out.tfevents.1"  # of the user, who may put anything beside
    own.parent.mkdir()
    own.write_bytes(b"mine")
    train(EveryMeasure(newer=False), name="every_measure", resume=run)
    assert {name: (run / "tensorboard" / name).stat().st_size for name in sizes} == sizes
    assert own.read_bytes() == b"mine" and not (run / "train").exists()
    new = set((run / "tensorboard").glob("*/events.*")) - {run / "tensorboard" / name for name in sizes}
    assert sorted(path.parent.name for path in new) == ["run", "train", "valid"]
    by_folder = {path.parent.name: EventAccumulator(str(path)).Reload().Tags() for path in new}
    assert "10_best/valid/loss" in by_folder["run"]["scalars"]
    assert "1_overview/loss" in by_folder["train"]["scalars"] and "1_overview/loss" in by_folder["valid"]["scalars"]
    said = [record.message for record in caplog.records if "former version" in record.message]
    assert len(said) == 1 and "\n" not in said[0] and str(run / "tensorboard") in said[0]
