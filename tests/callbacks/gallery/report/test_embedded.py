"""What a report says of samples: all of them in its tables, and as many as fit in its gallery."""

import base64

import numpy as np
import pyarrow.parquet as pq
import pytest
from report_runs import CLASSES, HOSTILE, JPEG, data_of, write_run, write_samples
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from assay.callbacks.gallery.report.class_tables import class_table
from assay.callbacks.gallery.report.page import write_report


def report(*runs, **options):
    path = runs[0].parent / "page.html"
    size = write_report(runs, path, **options)
    return data_of(path), size


def column(document, name):
    told = document["columns"][name]
    if told["type"] == "text":
        return told["data"]
    return np.frombuffer(base64.b64decode(told["data"]), np.dtype(told["type"]).newbyteorder("<"))


def test_the_tables_of_classes_are_those_of_scikit_learn(tmp_path):
    run = write_run(tmp_path / "run")
    target, prediction, _ = write_samples(run)
    (data, _) = report(run)
    (told,) = data["runs"][0]["sections"]["classes"]
    known = target >= 0
    expected = precision_recall_fscore_support(target[known], prediction[known], labels=[0, 1, 2], zero_division=0)
    rows = {name: values for name, *values in told["rows"]}
    assert set(rows) == set(CLASSES[:3])
    for number, name in enumerate(CLASSES[:3]):
        assert rows[name] == pytest.approx([of[number] for of in expected])
    assert [row[3] for row in told["rows"]] == sorted(row[3] for row in told["rows"])
    assert told["accuracy"] == pytest.approx((target == prediction)[known].mean())
    assert (told["samples"], told["unknown"], told["epoch"]) == (59, 1, 3)
    counts = confusion_matrix(target[known], prediction[known], labels=[0, 1, 2, 3])
    assert told["confusion"]["counts"] == counts.tolist() and told["confusion"]["classes"] == CLASSES


def test_of_many_classes_those_with_the_most_errors_are_in_the_matrix():
    chance = np.random.default_rng(0)
    target = np.repeat(np.arange(300), 10)
    prediction = np.where((target < 60) & (chance.random(3000) < 0.5), (target + 1) % 60, target)
    told = class_table(target, prediction, None)
    assert (len(told["rows"]), told["left_out"], told["confusion"]["left_out"]) == (200, 100, 250)
    errors = np.bincount(target, target != prediction, 300) + np.bincount(prediction, target != prediction, 300)
    numbers = told["confusion"]["numbers"]
    assert errors[numbers].min() >= np.delete(errors, numbers).max()
    for row, counts in zip(numbers, told["confusion"]["counts"], strict=True):
        assert counts == [int(((target == row) & (prediction == of)).sum()) for of in numbers]
    assert class_table(np.array([-1]), np.array([0]), None) is None


def test_the_gallery_holds_the_columns_curves_and_thumbnails_of_the_files(tmp_path):
    run = write_run(tmp_path / "run")
    target, prediction, loss = write_samples(run)
    (data, _) = report(run)
    ((loader,), notes) = data["runs"][0]["loaders"], data["runs"][0]["sections"]["notes"]
    document = loader["document"]
    assert column(document, "id")[:2] == [HOSTILE, "s1"]
    np.testing.assert_array_equal(column(document, "target"), target)
    np.testing.assert_array_equal(column(document, "prediction"), prediction)
    np.testing.assert_array_equal(column(document, "loss"), loss)
    assert (document["count"], document["left_out"], document["epoch"], notes) == (60, 0, 3, [])
    curves = loader["curves"]
    assert curves["index"] == list(range(60)) and curves["epochs"] == [1, 2, 3]
    for epoch in (1, 2, 3):
        table = pq.read_table(run / "samples" / "valid" / f"epoch-{epoch:06}.parquet")
        of = np.array([line[epoch - 1] for line in curves["loss"]], np.float32)
        np.testing.assert_array_equal(of, table["loss"].to_numpy())
    assert {base64.b64decode(one) for one in loader["thumbnails"]["jpeg"]} == {JPEG}
    assert sorted(loader["thumbnails"]["index"]) == list(range(60))
    assert loader["samples"]["3"] == {
        "id": "s3", "file": None, "suspects": [], "mean_probability": [0.5, 0.25, 0.25, 0.0], "mean_classes": None
    }  # fmt: skip


def test_best_and_worst_are_by_loss(tmp_path):
    run = write_run(tmp_path / "run")
    _, _, loss = write_samples(run)
    (told,) = report(run)[0]["runs"][0]["sections"]["ranked"]
    assert [one["index"] for one in told["worst"]] == np.argsort(-loss)[:12].tolist()
    assert [one["index"] for one in told["best"]] == np.argsort(loss)[:12].tolist()
    assert [np.float32(one["loss"]) for one in told["worst"]] == (-np.sort(-loss)[:12]).tolist()


def test_where_not_all_fit_suspects_and_wrong_ones_are_there_and_the_rest_is_counted(tmp_path):
    run = write_run(tmp_path / "run")
    suspects = (19_999, 7, 12_345)
    _, _, loss = write_samples(run, count=20_000, suspects=suspects, jpeg=JPEG + bytes(400))
    data, size = report(run, largest=2_000_000)
    assert size < 2_000_000
    run_data = data["runs"][0]
    (loader,), sections = run_data["loaders"], run_data["sections"]
    index = column(loader["document"], "index")
    assert len(index) + loader["document"]["left_out"] == 20_000 and 1000 < len(index) < 20_000
    assert {*suspects} <= {*index.tolist()} and (np.diff(index) > 0).all()
    assert {*np.argsort(-loss)[:100].tolist(), *np.argsort(loss)[:50].tolist()} <= {*index.tolist()}
    assert {*suspects} <= {*loader["curves"]["index"]} and {*suspects} <= {*loader["thumbnails"]["index"]}
    assert loader["thumbnails"]["index"][:3] == list(suspects)
    # The numbers that are shown of all samples are of all samples.
    assert sections["classes"][0]["samples"] == 19_999
    assert sections["summary"]["loaders"] == [{"loader": "valid", "samples": 20_000, "task": "multiclass"}]
    assert any(f"{len(index)} of the 20000 samples" in note for note in sections["notes"])


def test_two_runs_show_what_got_better_and_worse_of_the_samples_in_both(tmp_path):
    first, other = write_run(tmp_path / "first"), write_run(tmp_path / "other", lr=0.1)
    target, before, loss_before = write_samples(first, seed=1)
    _, after, loss_after = write_samples(other, count=50, seed=2)
    data, _ = report(first, other)
    (told,) = data["comparison"]
    assert (told["both"], told["only_run"], told["only_other"]) == (50, 10, 0)
    of = range(50)
    target_after = np.where(np.arange(50) == 5, -1, np.random.default_rng(1).integers(0, 3, 50))
    right_before = [bool(target[i] == before[i]) for i in of]
    right_after = [bool(target_after[i] == after[i]) for i in of]
    known = [i for i in of if i != 5]
    better = {i for i in known if not right_before[i] and right_after[i]}
    worse = {i for i in known if right_before[i] and not right_after[i]}
    assert told["counts"] == {
        "right_right": sum(right_before[i] and right_after[i] for i in known), "better": len(better),
        "worse": len(worse), "wrong_wrong": sum(not right_before[i] and not right_after[i] for i in known),
    }  # fmt: skip
    assert {one["index"] for one in told["better"]} == better and {
        one["index"] for one in told["worst" and "worse"]
    } == worse
    changes = [float(loss_before[one["index"]]) - float(loss_after[one["other"]["index"]]) for one in told["better"]]
    assert changes == sorted(changes, reverse=True)


@pytest.mark.parametrize("damaged", ["ids.parquet", "epoch-000003.parquet", "running.parquet", "groups.parquet"])
def test_a_damaged_file_of_samples_is_said_and_the_rest_is_there(tmp_path, damaged):
    run = write_run(tmp_path / "run")
    write_samples(run)
    write_samples(run, "train")
    (run / "samples" / "valid" / damaged).write_bytes(b"PAR1 nothing PAR1")
    data, _ = report(run)
    (told,) = data["runs"]
    assert [one["document"]["loader"] for one in told["loaders"]] == ["train"]
    assert any("valid" in note for note in told["sections"]["notes"]) and told["sections"]["metrics"]
