"""The report's data: the numbers of the files, whatever these hold, within ten megabytes."""

import csv
import json
import os
import struct

import numpy as np
import pytest
from PIL import Image
from report_runs import FINDING, HOSTILE, METRICS, data_of, write_run
from torch.utils.tensorboard import SummaryWriter

from assay.callbacks import UsageError
from assay.callbacks.gallery.report.event_scalars import read_scalars
from assay.callbacks.gallery.report.figures import read_figures
from assay.callbacks.gallery.report.page import run_names, write_report


def report_of(folder, *others, **options):
    path = folder.parent / "page.html"
    size = write_report([folder, *others], path, **options)
    assert size == path.stat().st_size
    return data_of(path)


def sections(folder, **options):
    return report_of(folder, **options)["runs"][0]["sections"]


def test_metrics_settings_findings_and_environment_are_those_of_the_files(tmp_path):
    told = sections(write_run(tmp_path / "run"))
    series = {(one["loader"], one["name"]): one for one in told["metrics"]}
    for key, values in METRICS.items():
        # Not a digit less, and what is no number is named.
        assert series[key]["values"] == [value if np.isfinite(value) else str(value) for value in values]
        assert series[key]["steps"] == [1, 2, 3, 4]
    assert [one["name"] for one in told["metrics"]] == ["loss", "loss", "accuracy", "accuracy"]
    assert ["lr", "0.003"] in told["settings"] and ["note", HOSTILE] in told["settings"]
    assert told["findings"] == [FINDING]
    assert told["environment"]["packages"] == {"torch": "2.15.0"}
    assert told["summary"]["command"] == "assay train 'my experiment'"
    assert (told["summary"]["last_epoch"], told["summary"]["planned"]) == (4, 5)
    (monitor,) = told["summary"]["monitors"]
    assert monitor == {"name": "valid/accuracy", "minimize": False, "epoch": 3, "value": 0.9}


def test_time_and_memory_are_those_of_the_event_files(tmp_path):
    told = sections(write_run(tmp_path / "run"))
    series = {one["name"]: (one["steps"], one["values"]) for one in told["time"]}
    assert series == {"9_time/forward": ([1, 2, 3, 4], [2.0, 4.0, 6.0, 8.0]), "9_memory/peak_mib": ([4], [512.5])}


def test_of_a_step_that_was_written_twice_the_later_value_counts_and_evaluations_do_not(tmp_path):
    for place, value in (("train", 1.0), ("evaluate/valid-best/train", 3.0)):
        writer = SummaryWriter(str(tmp_path / place))
        writer.add_scalar("9_time/data", value, 1)
        writer.close()
    writer = SummaryWriter(str(tmp_path / "train"), filename_suffix=".later")
    writer.add_scalar("9_time/data", 2.0, 1)
    writer.close()
    (series,) = read_scalars(tmp_path, lambda tag: True)
    assert (series.loader, series.values) == ("train", {1: 2.0})


@pytest.mark.parametrize("damage", ["cut", "noise", "length"])
def test_a_damaged_event_file_is_read_until_there(tmp_path, damage):
    (events,) = (write_run(tmp_path / "run") / "train").iterdir()
    content = events.read_bytes()
    rest = {"cut": b"", "noise": os.urandom(40), "length": struct.pack("<Q", 2**63) + bytes(30)}[damage]
    events.write_bytes(content[:-30] + rest)
    series = {one.name: one.values for one in read_scalars(tmp_path / "run", lambda tag: tag.startswith("9_time"))}
    assert series["9_time/forward"] == {1: 2.0, 2: 4.0, 3: 6.0, 4: 8.0}


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "findings.json", "metrics.csv"])
@pytest.mark.parametrize("content", [None, b"", b"{[", b"\xff\xfe\x00", b"epoch,loader\n1,train\n"])
def test_what_is_missing_or_damaged_is_said_and_nothing_else_is_lost(tmp_path, name, content):
    folder = write_run(tmp_path / "run")
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    told = sections(folder)
    missing = {"config.yaml": "settings", "environment.json": "environment", "findings.json": "findings",
               "metrics.csv": "metrics"}[name]  # fmt: skip
    assert not told[missing]
    # An empty table or list of metrics is what a run writes before its first epoch.
    is_damaged = content is not None and not (name == "metrics.csv" and content == b"")
    assert any(name in note for note in told["notes"]) == is_damaged
    others = {"settings", "environment", "findings", "metrics", "time"} - {missing}
    assert all(told[other] for other in others)


def test_a_line_that_a_killed_run_has_written_by_half_is_no_value(tmp_path):
    folder = write_run(tmp_path / "run")
    with open(folder / "metrics.csv", "a") as file:
        file.write("5,train,loss,0.1")
    assert sections(folder)["summary"]["last_epoch"] == 4


def test_gradients_are_those_of_their_table(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "results").mkdir()
    norms = {"head.weight": {1: 0.5, 2: float("inf")}, "stem.bias": {2: 1e-7}}
    with open(folder / "results" / "gradients.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["loader", "epoch", "parameter", "norm"])
        rows.writerows(["train", epoch, name, value] for name, of in norms.items() for epoch, value in of.items())
    (told,) = sections(folder)["gradients"]
    assert told == {
        "loader": "train", "epochs": [1, 2], "parameters": ["head.weight", "stem.bias"],
        "norms": [[0.5, "inf"], [None, 1e-7]], "left_out": 0, "epochs_left_out": 0, "others": {}, "troubles": [],
    }  # fmt: skip


def test_pictures_are_taken_as_far_as_they_fit_and_the_rest_is_counted(tmp_path):
    folder = write_run(tmp_path / "run")
    chance = np.random.default_rng(0)
    for name in ("worst_samples_loss", "confusion_matrix", "grad_cam_worst_loss", "samples_best_loss"):
        path = folder / "results" / "last" / "valid" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (120, 120, 3), np.uint8)).save(path)
    (folder / "results" / "last" / "valid" / "predictions_roc.png").write_bytes(b"no picture")
    told = sections(folder)
    titles = [one["title"] for one in told["figures"]]
    assert titles == ["worst samples by loss", "confusion matrix", "best samples by loss",
                      "Grad-CAM of the worst samples by loss"]  # fmt: skip
    assert any("1 pictures" in note for note in told["notes"])  # the damaged one
    sizes = [len(one["data"]) for one in told["figures"]]
    figures, left_out = read_figures(folder, sizes[0] + sizes[1])
    assert [one["title"] for one in figures] == titles[:2] and left_out == 3


def test_a_run_of_many_epochs_and_metrics_stays_within_the_size(tmp_path):
    chance = np.random.default_rng(0)
    metrics = {("train", f"metric{i}"): chance.random(500).tolist() for i in range(160)}
    folder = write_run(tmp_path / "run", metrics=metrics, monitor=["train/metric3:max"])
    told = sections(folder)
    assert (tmp_path / "page.html").stat().st_size < 10_000_000
    first = next(one for one in told["metrics"] if one["name"] == "metric3")
    values = metrics["train", "metric3"]
    assert first["steps"][-1] == 500 and len(first["steps"]) <= 401
    assert first["values"] == [values[step - 1] for step in first["steps"]]
    assert sum("left out" in note for note in told["notes"]) == 2


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        write_report([tmp_path / "none"], tmp_path / "page.html")
    with pytest.raises(UsageError, match="holds no metrics, events or samples"):
        write_report([tmp_path], tmp_path / "page.html")
    folder = write_run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"a page of 1 runs would have more than 0\.01 MB: name fewer runs"):
        write_report([folder], tmp_path / "page.html", largest=10_000)
    assert not (tmp_path / "page.html").exists()


def test_runs_are_named_by_as_much_of_their_paths_as_tells_them_apart(tmp_path):
    paths = [tmp_path / "a" / "digits" / "1", tmp_path / "b" / "digits" / "1", tmp_path / "b" / "digits" / "2"]
    assert run_names(paths) == ["a/digits/1", "b/digits/1", "b/digits/2"]
    assert run_names(paths[1:]) == ["digits/1", "digits/2"]
    assert json.loads(json.dumps(run_names(paths[:1]))) == ["digits/1"]
