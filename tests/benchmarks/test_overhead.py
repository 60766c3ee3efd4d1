"""The comparison runs every row on a small workload, and counts what it says that it counts."""

import json
from dataclasses import asdict, replace

import cv2
import pytest
from torch import nn

from benchmarks import chart, overhead, results
from benchmarks.apart import apart
from benchmarks.overhead import ALONE, ROWS, SETS, summarize
from benchmarks.workload import Stopwatch, Workload

SMALL = Workload(side=32, batch_size=4, train_steps=3, valid_steps=2, epochs=1)


def figures(row):
    subject, options = ROWS[row]
    return overhead.measure(subject, asdict(SMALL), options)


def test_the_bare_loop_and_assay_are_measured_from_the_first_step_to_the_last_write():
    bare, full = figures("bare loop"), figures("assay, full")
    assert set(bare) == {"seconds", "cpu_seconds", "step_ms", "peak_mib"}
    assert all(value > 0 for value in bare.values())
    assert len(full["loader_end_ms"]) == 2 and len(full["epoch_end_ms"]) == 1


def test_one_diagnostic_is_metered():
    subject, options = SETS["alone"]["ConfusionMatrix"]
    assert 0 < overhead.measure(subject, asdict(replace(SMALL, epochs=2)), options)["share"] < 100


def test_the_workload_of_masks_has_a_class_for_each_pixel():
    masks = replace(SMALL, model="unet", masks=True)
    images, targets = next(iter(masks.get_loaders()["valid"]))
    assert targets.shape == (4, 32, 32)
    assert set(targets.unique().tolist()) == set(range(masks.classes))
    assert masks.get_model()(images).shape == (4, masks.classes, 32, 32)


def test_the_workload_of_boxes_has_boxes_within_its_images():
    few = replace(SMALL, model="fcos_light", boxes=True, side=64, classes=2)
    images, targets = next(iter(few.get_loaders()["valid"]))
    assert images.shape == (4, 3, 64, 64)
    assert [len(target["boxes"]) for target in targets] == [1, 2, 3, 4]
    for target in targets:
        assert (target["boxes"][:, :2] + 8 <= target["boxes"][:, 2:]).all()
        assert target["boxes"].min() >= 0 and target["boxes"].max() <= 64
        assert target["labels"].min() >= 1 and target["labels"].max() < few.classes
    assert set(few.get_model()(list(images), targets)) == {"classification", "bbox_regression", "bbox_ctrness"}


def test_each_row_of_one_diagnostic_adds_just_that_one():
    from assay.callbacks import classification_diagnostics

    full = [type(callback).__name__ for callback in classification_diagnostics("full", num_classes=3)]
    assert sorted([*ALONE, "Metrics"]) == sorted(full)


def test_a_function_runs_in_a_process_of_its_own_and_its_failure_is_told():
    import os

    assert apart("os:getpid") != os.getpid()
    with pytest.raises(RuntimeError, match="FileNotFoundError"):
        apart("os:listdir", path="/there/is/none")


def test_the_stopwatch_begins_at_the_first_call_and_needs_one():
    model = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="never called"), Stopwatch("cpu").running(model):
        pass
    assert not model._forward_pre_hooks


def test_ratios_are_those_to_the_bare_loop_of_the_same_turn():
    def run(seconds):
        return {"seconds": seconds, "cpu_seconds": 2 * seconds, "peak_mib": 1.0}

    rows = summarize({"bare loop": [run(1.0), run(2.0), run(4.0)], "other": [run(1.5), run(2.0), run(5.0)]})
    assert rows["other"]["ratio"]["values"] == [1.5, 1.0, 1.25]
    assert rows["other"]["ratio"]["median"] == 1.25
    assert rows["bare loop"]["cpu_ratio"]["high"] == 1.0


def test_results_name_the_machine_and_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path / "benchmarks" / "results")
    (tmp_path / "benchmarks").mkdir()
    runs = [{"seconds": 1.0 + turn / 10, "cpu_seconds": 1.0, "peak_mib": 1.0, "share": 0.01} for turn in range(2)]
    for name, rows in SETS.items():
        of_set = summarize(dict.fromkeys(rows, runs))
        path = results.write(name, "cpu", {**asdict(replace(SMALL)), "repetitions": 2}, of_set)
    machine = json.loads(path.read_text())["machine"]
    assert machine["cores"] >= 1 and machine["gpu"] is None and machine["packages"]["torch"]
    chart.draw(results.read("overhead", "cpu"), results.read("alone", "cpu"), tmp_path / "chart.png")
    assert cv2.imread(str(tmp_path / "chart.png")).std() > 10


def test_wrong_options_are_named(capsys):
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit):
        overhead.main(["--rows", "assay, none"])
    assert "--rows must be of 'bare loop', 'assay, off'" in capsys.readouterr().err
    for wrong, words in ((["speed"], "there is no benchmark 'speed'"), (["--device", "tpu"], "invalid choice")):
        with pytest.raises(SystemExit) as ended:
            main(wrong)
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
