"""The files of samples against plain loops over the outputs of the same run, and what interrupts a run."""

import itertools
import json
import logging

import duckdb
import numpy as np
import polars as pl
import pytest
import torch
from kit import SIDES, Kill, Killed, fit
from made_history import (
    COUNT,
    EPOCHS,
    LOADERS,
    OF_SUSPECTS,
    Outputs,
    assert_row,
    files_of,
    items,
    linear,
    read,
    row_of,
    shares_of,
    train,
)
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory, UsageError
from assay.callbacks.history import sample_history
from assay.runner import DictRunner


def running_of(rows, all_logits):
    """Return the running values of one sample from its rows by epoch."""
    right = [row["prediction"] == row["target"] for row in rows.values()]
    learned = next((epoch for epoch, row in rows.items() if row["prediction"] == row["target"]), None)
    steps = itertools.pairwise(zip(rows, right, strict=True))
    lost = [epoch for (_, before), (epoch, after) in steps if before and not after]
    return {
        "epochs": len(rows),
        "aum": np.mean([row["margin"] for row in rows.values()]),
        "el2n": np.mean([row["el2n"] for row in rows.values()]),
        "target_probability": np.mean([row["target_probability"] for row in rows.values()]),
        "variability": np.std([row["target_probability"] for row in rows.values()]),
        "learned": learned,
        "forgotten": len(lost),
        "last_forgotten": max(lost, default=None),
        "correct": right[-1],
        "mean_probability": np.mean([shares_of(logits) for logits in all_logits], axis=0),
    }


@pytest.mark.parametrize("side", ["ours", "stock"])
def test_every_number_equals_a_loop_over_the_outputs(side, tmp_path):
    of = SIDES[side]
    history = SampleHistory(folder=tmp_path / "samples", **of.keys_of("output", "target", "sample_id"))
    seen = Outputs(of.names, of.keys.get("output_key", "logits"))
    # A rate at which samples are learned and forgotten.
    fit(
        of.runner(), linear(of.key), {key: DataLoader(items(of.names), 4, shuffle=key == "train") for key in LOADERS},
        [history, seen], lr=2.0, epochs=EPOCHS, **of.logs(tmp_path / "run"),
    )  # fmt: skip
    forgotten = 0
    for loader in LOADERS:
        running = read(tmp_path / "samples", loader, "running.parquet")
        assert len(running) == COUNT
        epochs = {e: read(tmp_path / "samples", loader, f"epoch-{e:06}.parquet") for e in range(1, EPOCHS + 1)}
        for name, found in running.items():
            rows = {}
            for epoch, of_epoch in epochs.items():
                rows[epoch] = row_of(*seen.kept[loader, epoch, name])
                assert_row(of_epoch[name], rows[epoch], rtol=3e-5, atol=1e-5)
            all_logits = [seen.kept[loader, epoch, name][0] for epoch in epochs]
            assert_row(found, running_of(rows, all_logits), rtol=2e-5, atol=2e-4)
            forgotten += found["forgotten"]
    assert forgotten > 3, "the run should forget some"


LONG = pytest.mark.long("trains to the end, is killed at another place and goes on")


@pytest.mark.parametrize(
    ("epoch", "batch"), [(1, 9), (3, 15), *(pytest.param(*at, marks=LONG) for at in ((1, 3), (2, 2), (4, 9)))]
)
def test_a_run_that_is_killed_and_resumed_has_the_files_of_one_that_was_not(epoch, batch, tmp_path):
    straight = files_of(train(tmp_path / "straight"))
    with pytest.raises(Killed):
        train(tmp_path / "killed", Kill(epoch, batch))
    assert files_of(train(tmp_path / "killed", resume=str(tmp_path / "killed"))) == straight
    assert len(straight) == 2 * (EPOCHS + 4)


def test_a_run_that_goes_back_counts_again_what_it_can_and_says_so(tmp_path, caplog):
    straight = files_of(train(tmp_path / "run", epochs=5))
    old = tmp_path / "run" / "checkpoints" / "epoch-0002.pt"
    with caplog.at_level(logging.WARNING, "assay"):
        again = files_of(train(tmp_path / "run", epochs=5, resume=str(old)))
    assert again.keys() == straight.keys()
    assert "older checkpoint" in caplog.text
    for name, rows in straight.items():
        for row, other in zip(rows, again[name], strict=True):
            if name.endswith("running.parquet"):
                assert other.pop("mean_probability") is None
                row.pop("mean_probability")
            for column in OF_SUSPECTS if name.endswith("groups.parquet") else ():
                assert other.pop(column) is None
                row.pop(column)
            assert_row(other, row, rtol=1e-4, atol=2e-5)


def of_rank(folder, processes):
    train(folder, lr=0.0)
    # By id, as the order in which training shows samples is another for each number of processes.
    return {
        f"{loader}/{path.name}": read(folder / "samples", loader, path.name)
        for loader in LOADERS
        for path in (folder / "samples" / loader).glob("[!.]*.parquet")
        if path.name != "ids.parquet"
    }


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_write_the_same_as_one(processes, rank_processes, tmp_path):
    alone = of_rank(tmp_path / "one", 1)
    found = rank_processes.run(processes, of_rank, tmp_path / "many", processes)[0]
    assert found.keys() == alone.keys()
    for name, rows in alone.items():
        assert found[name].keys() == rows.keys()
        for one, row in rows.items():
            row, other = dict(row), dict(found[name][one])
            assert row.pop("index") >= 0 <= other.pop("index")
            assert_row(other, row, rtol=1e-5)


def bce_of_known(output, target):
    return nn.functional.binary_cross_entropy_with_logits(output, target.clamp(0, 1))


@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_ignored_targets_and_broken_outputs_are_null_and_count_nothing(task, tmp_path):
    class Some(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 2)

        def forward(self, image):
            logits = torch.where(image[:, 0, :1, 0] > 1, torch.nan, self.layer(image.flatten(1)))
            return {"logits": logits if task == "multiclass" else logits[:, 0]}

    data = items(classes=2)
    for item in data[:5]:
        item["target"] = -1
    data = [{**item, "target": float(item["target"])} for item in data] if task == "binary" else data
    broken = {item["sample_id"] for item in data if item["image"][0, 0, 0] > 1}
    assert broken
    fit(
        DictRunner(), Some(), {"valid": DataLoader(data, 4)},
        [SampleHistory(task, ignore_index=-1)], optimizer=None, logdir=str(tmp_path),
        criterion=nn.CrossEntropyLoss(ignore_index=-1) if task == "multiclass" else bce_of_known,
    )  # fmt: skip
    rows = read(tmp_path / "samples", "valid", "epoch-000001.parquet")
    running = read(tmp_path / "samples", "valid", "running.parquet")
    for item in data:
        row, values = rows[item["sample_id"]], running[item["sample_id"]]
        ignored, failed = item["target"] == -1, item["sample_id"] in broken
        assert (row["target"] is None) == ignored
        assert (row["prediction"] is None) == (row["probability"] is None) == failed
        assert (row["margin"] is None) == (row["target_probability"] is None) == (ignored or failed)
        assert values["epochs"] == (not ignored and not failed)
        assert (values["aum"] is None) == (values["mean_probability"] is None) == (ignored or failed)


def test_readers_of_tables_read_them_as_they_are(tmp_path):
    folder = train(tmp_path, epochs=2) / "train"
    found = duckdb.sql(
        f"""select id, aum, mean_probability[1] as first from '{folder}/running.parquet'
        join '{folder}/ids.parquet' using (index) order by aum limit 1"""
    ).fetchall()
    running = pl.read_parquet(folder / "running.parquet").join(pl.read_parquet(folder / "ids.parquet"), on="index")
    row = running.sort("aum").row(0, named=True)
    assert found == [(row["id"], row["aum"], row["mean_probability"][0])]
    many = duckdb.sql(f"select count(*) from '{folder}/epoch-*.parquet'").fetchall()
    assert many == [(2 * COUNT,)]


@pytest.mark.parametrize("names", [None, ("a", "b<c>", "\u00e4\n")])
def test_the_files_say_which_loader_and_task_they_are_of(names, tmp_path):
    loader = "valid/all of it"
    fit(
        DictRunner(), linear(), {loader: DataLoader(items(), 4)}, [SampleHistory(class_names=names, ignore_index=-1)],
        optimizer=None, logdir=str(tmp_path), criterion=nn.CrossEntropyLoss(ignore_index=-1),
    )  # fmt: skip
    (path,) = (tmp_path / "samples").glob("*/about.json")
    assert json.loads(path.read_text("utf-8")) == {
        "loader": loader, "task": "multiclass", "class_names": names and [*names], "ignore_index": -1,
        "thumbnails": "seen",
    }  # fmt: skip


@pytest.mark.parametrize("whole", [True, False])
def test_a_loader_that_is_too_large_or_has_no_ids_is_left_out_with_one_line(whole, tmp_path, caplog):
    data = {key: DataLoader(items(ids=whole), 4) for key in LOADERS}
    with caplog.at_level(logging.WARNING, "assay"):
        fit(
            DictRunner(), linear(), data, [SampleHistory(max_samples=COUNT - whole)], epochs=3, logdir=str(tmp_path),
        )  # fmt: skip
    said = [record.getMessage() for record in caplog.records if "SampleHistory" in record.getMessage()]
    if whole:
        assert sorted(said) == [
            f"SampleHistory leaves out loader {key!r}, which has more than 29 samples: "
            "pass max_samples=None, or --sample-history on"
            for key in LOADERS
        ]
        assert not (tmp_path / "samples").exists()
    else:
        assert said == [
            "SampleHistory leaves out loader 'train', as its order changes and its batches have no key 'sample_id'"
        ]
        assert pl.read_parquet(tmp_path / "samples" / "valid" / "ids.parquet")["id"].to_list() == [*map(str, range(30))]


def test_without_pyarrow_it_says_so_in_one_line(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(sample_history, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING, "assay"):
        train(tmp_path, epochs=2)
    said = [record.getMessage() for record in caplog.records if "SampleHistory" in record.getMessage()]
    assert said == ["SampleHistory writes nothing: install pyarrow, as by pip install 'catalyst-assay[samples]'"]
    assert not (tmp_path / "samples").exists()


def test_a_criterion_without_a_loss_of_one_sample_leaves_it_null(tmp_path):
    def spread(output, target):
        return output.std(dim=0).sum()

    fit(
        DictRunner(), linear(), {"valid": DataLoader(items(), 4)}, [SampleHistory()], optimizer=None,
        criterion=spread, logdir=str(tmp_path),
    )  # fmt: skip
    rows = read(tmp_path / "samples", "valid", "epoch-000001.parquet")
    assert {row["loss"] for row in rows.values()} == {None}
    assert all(row["margin"] is not None for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "outputs", "message"),
    [
        ({"task": "regresion"}, 3, r"unknown task 'regresion'.* 'binary'.*'multiclass'"),
        ({"max_samples": 0}, 3, "max_samples must be an integer of at least 1, got 0"),
        ({}, 1, r"needs logits of shape \[N, C\] with two classes or more.*, got 'logits' float32 \[4, 1\]"),
        ({"task": "binary"}, 3, r"needs logits of shape \[N\] or \[N, 1\].*, got 'logits' float32 \[4, 3\]"),
        ({"target_key": "image"}, 3, r"needs a class for each of 4 samples, got 'image' float32 \[4, 1, 4, 4\]"),
        ({"output_key": "scores"}, 3, "asks for key 'scores', which the batch lacks"),
    ],
)  # fmt: skip
def test_wrong_use_is_told(arguments, outputs, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        fit(
            DictRunner(), linear(outputs=outputs), {"valid": DataLoader(items(classes=1), 4)},
            [SampleHistory(**arguments)], optimizer=None, logdir=str(tmp_path),
        )  # fmt: skip


def test_two_of_them_have_folders_of_their_own(tmp_path):
    data = {"valid": DataLoader(items(), 4)}
    with pytest.raises(UsageError, match="two callbacks write to"):
        fit(
            DictRunner(), linear(), data, [SampleHistory(), SampleHistory()], optimizer=None, logdir=str(tmp_path),
        )  # fmt: skip
    fit(
        DictRunner(), linear(), data, [SampleHistory(), SampleHistory(folder=tmp_path / "b", prefix="b")],
        optimizer=None, logdir=str(tmp_path / "a"),
    )  # fmt: skip
    assert files_of(tmp_path / "a" / "samples") == files_of(tmp_path / "b")
