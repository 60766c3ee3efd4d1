"""What is read of the files of a run, against what was written."""

import itertools
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_samples import JPEG, logits_of, write_findings, write_groups, write_samples, write_thumbnails

from assay.callbacks.gallery.aggregates import aggregate
from assay.callbacks.gallery.parquet_columns import WrongFileError
from assay.callbacks.gallery.run_folder import NotThereError
from assay.callbacks.gallery.run_samples import RunSamples
from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import SampleFiles
from assay.callbacks.history.suspect_table import HEADER
from assay.callbacks.measures.box_evidence import EVIDENCE
from assay.callbacks.measures.sample_history import COLUMNS_OF, KEPT_OF_BOXES, KEPT_OF_MAPS

COUNT, CLASSES, EPOCHS = 60, 4, 3


def test_a_table_has_the_numbers_of_the_epoch_and_of_the_run(tmp_path):
    write_samples(tmp_path)
    table = RunSamples(tmp_path).table("valid", 2)
    logits, target = logits_of(COUNT, CLASSES, EPOCHS)
    assert (table.epoch, table.epochs, table.task) == (2, (1, 2, 3), "multiclass")
    assert table.classes == ("class 0", "class 1", "class 2", "class 3")
    right = [(logits[epoch].argmax(axis=1) == target).tolist() for epoch in range(EPOCHS)]
    for row in range(COUNT):
        shares = [np.exp(one[row]) / np.exp(one[row]).sum() for one in logits.astype(np.float64)]
        own = [one[target[row]] for one in shares]
        expected = {
            "index": row,
            "target": target[row],
            "prediction": logits[1, row].argmax(),
            "correct": right[1][row],
            "probability": shares[1].max(),
            "target_probability": own[1],
            "loss": -np.log(own[1]),
            "seen": EPOCHS,
            "confidence": np.mean(own),
            "learned": next((epoch + 1 for epoch in range(EPOCHS) if right[epoch][row]), -1),
            "forgetting": sum(a and not b for a, b in itertools.pairwise([one[row] for one in right])),
            "pictured": 0,
        }
        for name, value in expected.items():
            np.testing.assert_allclose(table.columns[name][row], value, rtol=1e-4, err_msg=name)
        assert table.ids[row].as_py() == f"valid-{row:03}.png"


def test_samples_that_an_epoch_did_not_show_are_left_out_of_it(tmp_path):
    seen = np.ones((EPOCHS, COUNT), bool)
    seen[2, ::3] = False
    folder = write_samples(tmp_path, seen=seen)
    write_groups(folder, COUNT, [(4, 2)], stuck={4, 6})
    table = RunSamples(tmp_path).table("valid")
    assert table.columns["index"].tolist() == [row for row in range(COUNT) if row % 3]
    assert table.ids.to_pylist() == [f"valid-{row:03}.png" for row in range(COUNT) if row % 3]
    assert np.flatnonzero(table.columns["stuck"]).tolist() == [2]
    assert table.columns["suspect_rank"].tolist() == [1 if row == 2 else -1 for row in range(len(table))]
    assert table.columns["seen"].tolist() == [3] * len(table)
    assert table.columns["suspect_kind"].tolist() == [0 if row == 2 else -1 for row in range(len(table))]


def test_curves_and_one_sample_over_all_epochs(tmp_path):
    seen = np.ones((EPOCHS, COUNT), bool)
    seen[1, 7] = False
    folder = write_samples(tmp_path, seen=seen)
    write_thumbnails(folder, [(7, "image", JPEG + b"7"), (8, "image", JPEG + b"8"), (7, "drawn", JPEG + b"d")])
    write_thumbnails(folder, [(7, "image", JPEG + b"new")], epoch=3)
    run = RunSamples(tmp_path)
    logits, target = logits_of(COUNT, CLASSES, EPOCHS)
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    curves = run.curves("valid", [8, 7])
    assert curves["epochs"] == [1, 2, 3]
    assert curves["prediction"] == [
        logits[:, 8].argmax(axis=1).tolist(),
        [logits[0, 7].argmax(), None, logits[2, 7].argmax()],
    ]
    assert curves["loss"][0] == pytest.approx(-np.log(shares[:, 8, target[8]]), rel=1e-4)
    assert curves["target_probability"][1][1] is None
    sample = run.sample("valid", 7)
    assert (sample["id"], sample["file"], sample["kinds"]) == ("valid-007.png", None, ["drawn", "image"])
    assert sample["mean_probability"] == pytest.approx(shares[[0, 2], 7].mean(axis=0), abs=1e-3)
    assert sample["curves"]["target_probability"] == [curves["target_probability"][1]]
    assert run.thumbnail("valid", 7) == JPEG + b"new"
    assert run.thumbnail("valid", 7, "drawn") == JPEG + b"d"
    assert run.thumbnail("valid", 8) == JPEG + b"8"
    assert run.thumbnail("valid", 9) is None
    assert run.thumbnail("valid", 7, "../image") is None
    assert run.table("valid").columns["pictured"].nonzero()[0].tolist() == [7, 8]


def test_what_a_run_does_not_say_of_itself_is_unknown(tmp_path):
    folder = write_samples(tmp_path)
    for content in (None, "{", "[]", '{"loader": 3, "task": 4, "class_names": "abc"}'):
        (folder / "about.json").unlink()
        if content is not None:
            (folder / "about.json").write_text(content)
        (info,) = RunSamples(tmp_path).loaders()
        assert (info.loader, info.task, info.classes) == ("3" if content and "3" in content else "valid", None, None)
        (folder / "about.json").touch()


def test_a_suspect_has_the_file_that_the_table_of_suspects_names(tmp_path):
    write_samples(tmp_path)
    (tmp_path / "results").mkdir()
    rows = ["train,valid-003.png,of another loader", 'valid,valid-003.png,"a, ""b"".png"', "valid,valid-004.png,"]
    (tmp_path / "results" / "suspects.csv").write_text("\n".join(["loader,sample_id,file", *rows]))
    run = RunSamples(tmp_path)
    assert [run.sample("valid", index)["file"] for index in (3, 4, 5)] == ['a, "b".png', None, None]
    of_older_version = {"kind": "label", "label": None, "likely_label": None, "score": None, "where": None}
    assert [run.sample("valid", index)["suspects"] for index in (3, 5)] == [[of_older_version], []]


def test_all_that_is_suspect_of_a_sample_is_told(tmp_path):
    write_samples(tmp_path)
    (tmp_path / "results").mkdir()
    rows = [
        HEADER,
        ["valid", "valid-003.png", "", "missing_box", "", "<b>", "0.75", "3", "1 2.5 30 40"],
        ["train", "valid-003.png", "", "label", "a", "b", "0.7", "3", ""],
        ["valid", "valid-003.png", "", "false_box", "a", "", "0.5", "3", "1 2 wrong 4"],
    ]
    (tmp_path / "results" / "suspects.csv").write_text("\n".join(map(",".join, rows)))
    assert RunSamples(tmp_path).sample("valid", 3)["suspects"] == [
        {"kind": "missing_box", "label": None, "likely_label": "<b>", "score": 0.75, "where": [1, 2.5, 30, 40]},
        {"kind": "false_box", "label": "a", "likely_label": None, "score": 0.5, "where": None},
    ]


def test_findings_and_loaders_are_told(tmp_path):
    write_samples(tmp_path, "train")
    write_samples(tmp_path, "my loader/a", names=[])
    ids = ["train-003.png", "not there"]
    write_findings(tmp_path, twice=("train, valid", ids), dark=("train", ["train-003.png"]), other=("valid", ids))
    run = RunSamples(tmp_path)
    other, train = run.loaders()
    assert (train.loader, train.count, train.epochs, train.findings) == ("train", 60, (1, 2, 3), ("dark", "twice"))
    assert (other.loader, other.findings, other.error) == ("my loader/a", (), "")
    assert run.table("train").findings == {3: ("twice", "dark")}


def test_a_file_that_changes_is_read_again(tmp_path):
    write_samples(tmp_path, epochs=2)
    run = RunSamples(tmp_path)
    before = run.table("valid")
    assert run.table("valid") is before
    assert before.columns["seen"].max() == 2
    write_samples(tmp_path, epochs=3)
    after = run.table("valid")
    assert (after.epoch, after.columns["seen"].max()) == (3, 3)


def test_a_run_that_was_cut_back_has_no_later_epoch(tmp_path):
    folder = write_samples(tmp_path)
    run = RunSamples(tmp_path)
    assert run.table("valid").epoch == 3
    (folder / "epoch-000003.parquet").unlink()
    (folder / "running.parquet").unlink()
    table = run.table("valid")
    assert table.epoch == 2
    assert "seen" not in table.columns
    with pytest.raises(NotThereError, match=r"no epoch 3; there is: 1, 2\."):
        run.table("valid", 3)


@pytest.mark.parametrize("loader", ["..", "../valid", "/etc", "valid/../valid", "valid\0", "", "missing"])
def test_no_other_name_leads_to_a_file(tmp_path, loader):
    write_samples(tmp_path)
    with pytest.raises(NotThereError, match="there is: 'valid'"):
        RunSamples(tmp_path).table(loader)


def test_links_that_lead_out_of_the_run_are_not_followed(tmp_path):
    outside = write_samples(tmp_path / "outside")
    run = tmp_path / "run"
    inside = write_samples(run, "train")
    os.symlink(outside, run / "samples" / "valid")
    assert [info.loader for info in RunSamples(run).loaders()] == ["train"]
    (inside / "groups.parquet").symlink_to(outside / "running.parquet")
    assert "suspect_rank" not in RunSamples(run).table("train").columns
    (run / "findings.json").symlink_to(outside / "about.json")
    assert RunSamples(run).table("train").findings is None
    os.mkfifo(inside / "thumbnails-000001.parquet")
    assert RunSamples(run).thumbnail("train", 1) is None


def test_a_run_may_be_a_link_itself(tmp_path):
    write_samples(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert len(RunSamples(tmp_path / "link").table("valid")) == COUNT


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("epoch-000003.parquet", {"index": [0, 99], "loss": [0.0, 1.0]}),
        ("epoch-000003.parquet", {"index": [1, 0], "loss": [0.0, 1.0]}),
        ("epoch-000003.parquet", {"loss": [0.0]}),
        ("epoch-000003.parquet", {"index": ["a"], "loss": [0.0]}),
        ("running.parquet", {"epochs": [1]}),
        ("running.parquet", {"index": [0], "epochs": [{"a": 1}]}),
        ("ids.parquet", {"index": [0]}),
        ("ids.parquet", {"id": pa.array([b"\xff"] * COUNT)}),
    ],
)
def test_a_file_that_is_none_of_ours_is_named(tmp_path, name, columns):
    folder = write_samples(tmp_path)
    pq.write_table(pa.table(columns), folder / name)
    with pytest.raises(WrongFileError, match=name.split("-")[0]) as caught:
        RunSamples(tmp_path).table("valid")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    folder = write_samples(tmp_path)
    (folder / "ids.parquet").write_bytes(b"nothing")
    (info,) = RunSamples(tmp_path).loaders()
    assert info.error.startswith("samples/valid/ids.parquet cannot be read as a file of samples")


def test_of_very_many_samples_curves_leave_out_epochs_evenly_and_keep_them(tmp_path, monkeypatch):
    whole, some = [], {}
    for epochs in (5, 6, 11, 13):
        write_samples(tmp_path, count=10, classes=3, epochs=epochs)
        whole = RunSamples(tmp_path).curves("valid", [4])
        with monkeypatch.context() as patched:
            patched.setattr("assay.callbacks.gallery.curves._MOST_READ", 60)  # six epochs of ten samples
            some[epochs] = RunSamples(tmp_path).curves("valid", [4])
    assert {epochs: curves["epochs"] for epochs, curves in some.items()} == {
        5: [1, 2, 3, 4, 5],
        6: [1, 2, 3, 4, 5, 6],
        11: [1, 2, 4, 6, 8, 10, 11],
        13: [1, 4, 8, 12, 13],
    }
    assert whole["epochs"] == list(range(1, 14))
    assert {epochs: curves["epochs_left_out"] for epochs, curves in some.items()} == {5: 0, 6: 0, 11: 4, 13: 8}
    assert some[13]["loss"] == [[whole["loss"][0][epoch - 1] for epoch in (1, 4, 8, 12, 13)]]


TASKS = {
    "multilabel": {"wrong_labels": [0, 2, np.nan], "margin": [0.5, -2.0, np.nan], "loss": [0.1, 2.0, 0.3]},
    "segmentation": {"score": [0.5, np.nan, 1.0], "loss": [0.1, np.nan, 0.3]},
    "detection": {
        "score": [0.5, 0.0, np.nan], "boxes": [2, 1, 0], "found": [1, 0, 0], "missed": [1, 1, 0], "false": [0, 4, 0],
        "loss": [np.nan] * 3,
    },
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_other_tasks_have_their_own_columns(tmp_path, task):
    numbers = TASKS[task]
    files = SampleFiles(tmp_path / "samples" / "valid", {"loader": "valid", "class_names": None})
    kept = {"detection": KEPT_OF_BOXES, "segmentation": KEPT_OF_MAPS}.get(task, COLUMNS_OF[task])
    values = np.array([numbers.get(name, [np.nan] * 3) for name in kept], np.float32).T
    evidence = np.full((3, len(EVIDENCE) * (task == "detection")), np.nan, np.float16)
    for epoch in (1, 2):
        files.add(epoch, SampleRows(np.arange(3), ["a", "b", "c"], values, evidence, task))
    run = RunSamples(tmp_path)
    table = run.table("valid")
    assert table.task == task
    for name, expected in numbers.items():
        whole = table.columns[name].dtype == np.int32
        np.testing.assert_allclose(
            table.columns[name], np.nan_to_num(expected, nan=-1) if whole else expected, atol=1e-4
        )
    if task == "multilabel":
        assert table.columns["correct"].tolist() == [1, 0, 255]
    assert ("correct" in table.columns) == (task == "multilabel")
    shown = {"score", "loss"} & numbers.keys()
    assert run.curves("valid", [0]).keys() == {"epochs", "epochs_left_out", *shown}
    assert run.sample("valid", 1)["mean_probability"] is None
    assert len(aggregate(table, "distribution", {"column": "loss", "bins": 3})["unknown"]) == 3


def test_of_many_classes_the_likeliest_are_known_and_bound_the_others(tmp_path):
    folder = write_samples(tmp_path, count=40, classes=6)
    draw = np.random.default_rng(5)
    shares = draw.dirichlet(np.ones(6) * 0.4, 40).astype(np.float32)
    target = RunSamples(tmp_path).table("valid").columns["target"]
    # Of each sample its own class and the two likeliest others, as a run with very many classes keeps them.
    kept = [sorted({int(own), *np.argsort(-row)[:3].tolist()}) for own, row in zip(target, shares, strict=True)]
    running = pq.read_table(folder / "running.parquet").drop_columns("mean_probability")
    lists = {"mean_classes": kept, "mean_probability": [row[of].tolist() for row, of in zip(shares, kept, strict=True)]}
    for name, kind in (("mean_classes", pa.int32()), ("mean_probability", pa.float32())):
        running = running.append_column(name, pa.array(lists[name], pa.list_(kind)))
    pq.write_table(running, folder / "running.parquet")
    run = RunSamples(tmp_path)
    table = run.table("valid")
    assert run.sample("valid", 3)["mean_classes"] == kept[3]
    for number in range(6):
        known, most = table.class_probability(number)
        for row in range(40):
            if number in kept[row]:
                assert known[row] == shares[row, number]
            else:
                assert np.isnan(known[row])
                assert shares[row, number] <= most[row] + 1e-6
        points = aggregate(table, "precision_recall", {"class": number})["points"]
        assert points
        # What is shown is as exact as if all were known.
        for point in points:
            above = shares[:, number] >= point["threshold"]
            assert point["precision"] == pytest.approx((target[above] == number).mean())
            assert point["recall"] == pytest.approx((target[above] == number).sum() / (target == number).sum())
