"""Whole runs: what they write and show, and the one line that a wrong folder gets."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from assay.callbacks.measures.best_worst_samples import Sample
from assay.experiments.alaska2.changed_samples import show_sample
from assay.experiments.alaska2.data import is_valid
from assay.experiments.alaska2.residuals import draw_changes, measure_changes
from assay.runner.commands.main import main

QUICK = ["--epochs", "1", "--batch-size", "8", "--width", "8"]


def test_a_run_trains_and_draws(made, tmp_path):
    run = tmp_path / "run"
    assert main(["train", "alaska2", "--data-dir", str(made), "--run-dir", str(run), *QUICK]) == 0
    rows = list(csv.DictReader((run / "metrics.csv").read_text().splitlines()))
    values = {row["metric"]: float(row["value"]) for row in rows if row["loader"] == "valid"}
    assert 0 <= values["weighted_auc"] <= 1
    assert {"loss", "accuracy", "roc_auc"} <= values.keys()
    places = ["--input", str(made / "Cover"), "--output", str(tmp_path / "out")]
    assert main(["predict", str(run), *places]) == 0
    (table,) = (tmp_path / "out").glob("*.csv")
    assert len(table.read_text().splitlines()) == 1 + 12
    assert json.loads((run / "environment.json").read_text())["generated"] is False
    written = b"".join(path.read_bytes() for path in (run / "valid").iterdir())
    for tag in (
        "6_samples/changes/loss",
        "2_confusion_matrix/by_quality",
        "2_confusion_matrix",
        "5_predictions/distribution",
    ):
        assert tag.encode() in written


@pytest.mark.parametrize("level", ["off", "light"])
def test_the_metric_is_there_at_every_level(made, tmp_path, level):
    run = tmp_path / "run"
    arguments = ["--data-dir", str(made), "--run-dir", str(run), "--diagnostics", level]
    assert main(["train", "alaska2", *arguments, *QUICK]) == 0
    assert "valid,weighted_auc," in (run / "metrics.csv").read_text()


def test_a_bad_file_ends_the_run_with_its_name_or_is_left_out(data_dir, tmp_path, capsys):
    name = next(path.name for path in sorted((data_dir / "UERD").iterdir()) if not is_valid(path.name))
    spoilt = data_dir / "UERD" / name
    spoilt.write_bytes(spoilt.read_bytes()[:900])
    arguments = ["train", "alaska2", "--data-dir", str(data_dir), "--diagnostics", "off", *QUICK]
    for check, code in (("quick", 2), ("off", 1)):
        assert main([*arguments, "--run-dir", str(tmp_path / "a"), "--check", check]) == code
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert f"UERD/{name}" in error
    assert main([*arguments, "--run-dir", str(tmp_path / "b"), "--on-bad-image", "skip"]) == 0
    assert "bad images left out: train 1" in capsys.readouterr().out


def test_a_folder_that_is_no_data_set_gets_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    arguments = ["--data-dir", str(tmp_path / "empty"), "--run-dir", str(tmp_path / "run")]
    assert main(["train", "alaska2", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "empty/Cover is missing" in error


def test_what_was_embedded_is_measured(made):
    path, cover = made / "JMiPOD" / "00004.jpg", made / "Cover" / "00004.jpg"
    changes, plain = measure_changes(path, cover), measure_changes(cover, cover)
    assert changes.rate == pytest.approx(0.2, abs=0.01)  # the second rate, and rounded numbers
    assert plain.rate == 0
    assert not plain.difference.any()
    assert changes.difference.shape == changes.residual.shape == (64, 64)
    levels = [np.asarray(Image.open(of).convert("L"), dtype=float) for of in (path, cover)]
    assert np.abs(np.abs(levels[0] - levels[1]) - changes.difference).max() < 3


def test_the_residual_is_what_a_high_pass_leaves(tmp_path):
    slope = np.linspace(40, 200, 64).round().astype(np.uint8)
    Image.fromarray(np.stack([np.tile(slope, (64, 1))] * 3, axis=-1)).save(tmp_path / "a.jpg", quality=95)
    residual = measure_changes(tmp_path / "a.jpg", tmp_path / "a.jpg").residual
    assert np.abs(residual[2:-2, 2:-2]).max() < 0.5


def test_shown_samples_say_truth_prediction_and_rate(made):
    logits = np.log(np.array([0.7, 0.1, 0.1, 0.1], dtype=np.float32))
    entries = [
        show_sample(made, rank, Sample(2.5, 3, f"{kind}/00005.jpg", {"target": target, "output": logits}))
        for rank, (kind, target) in enumerate((("UERD", 3), ("Cover", 0)), start=1)
    ]
    assert list(entries[0].lines) == ["UERD → Cover  0.70", "#1  loss 2.5"]
    assert (entries[1].lines[0], entries[1].name) == ("Cover  0.70", "Cover/00005.jpg")
    assert [entry.right for entry in entries] == [False, True]
    drawn = draw_changes(entries, ["title"])
    assert drawn.dtype == np.uint8
    assert drawn.shape[2] == 3
