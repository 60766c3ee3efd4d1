"""Running values and groups of samples with masks, boxes and several labels, against plain loops over the epochs."""

import itertools
import math

import numpy as np
import polars as pl
import pytest

from assay.callbacks.history import groups as sample_groups
from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import SampleFiles
from assay.callbacks.history.groups import FoundGroups, write_groups
from assay.callbacks.history.suspects import Suspects
from assay.callbacks.measures.sample_history import COLUMNS_OF

COUNT, EPOCHS = 60, 9
KINDS = ("multilabel", "segmentation", "detection")


# Of the others, which tell where masks and boxes are wrong, nothing is known here.
TOLD = ("score", "wrong_labels", "margin", "boxes", "found", "missed", "false", "loss")


@pytest.fixture(autouse=True)
def _whole_columns(monkeypatch):
    """Take the columns of an epoch's file as they are, and not as a loader keeps them."""

    def columns(rows, some):
        return {name: rows.numbers[some, place] for place, name in enumerate(COLUMNS_OF[rows.kind])}

    monkeypatch.setattr(SampleRows, "columns", columns)


def numbers_of(kind, draw, skill):
    """Return the columns of one sample in an epoch; some are not known."""
    found = {name: float(draw.normal(skill, 0.3)) if name in TOLD else math.nan for name in COLUMNS_OF[kind]}
    if kind == "multilabel":
        found["margin"] = skill - 0.3 + draw.normal(0, 0.3)
        found["wrong_labels"] = float(found["margin"] < 0) * draw.integers(1, 4)
    if kind == "detection":
        found["boxes"] = float(draw.integers(0, 3))
        found["false"] = float(draw.integers(0, 2))
        found["found"] = found["missed"] = 1.0
        found["score"] = math.nan if not found["boxes"] else float(np.clip(skill + draw.normal(0, 0.3), 0, 1))
    for name in ("loss", *(["score"] if kind == "segmentation" else [])):
        if name in found and draw.random() < 0.2:
            found[name] = math.nan
    # Not so near to what is right that the digits that files keep decide.
    found |= {"score": round(found["score"], 2)} if "score" in found else {}
    if kind == "multilabel" and draw.random() < 0.1:
        found["margin"] = found["wrong_labels"] = math.nan
    return found


def counts(kind, row):
    return not math.isnan(row[{"multilabel": "margin", "segmentation": "score", "detection": "boxes"}[kind]])


def is_right(kind, row):
    if kind == "multilabel":
        return row["wrong_labels"] == 0
    if kind == "detection" and math.isnan(row["score"]):
        return row["boxes"] == 0 and row["false"] == 0
    return row["score"] >= 0.5


def mean_of(values):
    known = [value for value in values if not math.isnan(value)]
    return (sum(known) / len(known) if known else None), len(known)


def sample_rows(kind, ids, rows):
    numbers = np.array([[row[name] for name in COLUMNS_OF[kind]] for row in rows], np.float32)
    numbers = numbers.reshape(len(ids), len(COLUMNS_OF[kind]))
    return SampleRows(np.arange(len(ids)), ids, numbers, np.zeros((len(ids), 0), np.float16), kind)


def written(folder, kind, seed=0):
    """Write epochs that leave samples out; return the rows of each sample by epoch, by id."""
    draw = np.random.default_rng(seed)
    files, seen = SampleFiles(folder), {f"s{number}": {} for number in range(COUNT)}
    skill = draw.normal(0.5, 0.3, COUNT)
    for epoch in range(1, EPOCHS + 1):
        some = [number for number in range(COUNT) if draw.random() < 0.8]
        rows = [numbers_of(kind, draw, skill[number]) for number in some]
        for number, row in zip(some, rows, strict=True):
            seen[f"s{number}"][epoch] = {name: float(np.float32(value)) for name, value in row.items()}
        files.add(epoch, sample_rows(kind, [f"s{number}" for number in some], rows))
        write_groups(files)
    return files, seen


def read(folder, name):
    ids = pl.read_parquet(folder / "ids.parquet")["id"].to_list()
    return {ids[row["index"]]: row for row in pl.read_parquet(folder / name).iter_rows(named=True)}


def expected(kind, rows):
    """Return the running values of a sample from its rows by epoch."""
    counted = {epoch: is_right(kind, row) for epoch, row in rows.items() if counts(kind, row)}
    epochs = list(counted)
    events = [now for before, now in itertools.pairwise(epochs) if counted[before] and not counted[now]]
    found = {
        "epochs": len(counted), "correct": bool(counted and counted[epochs[-1]]),
        "learned": next((epoch for epoch in epochs if counted[epoch]), None), "forgotten": len(events),
        "last_forgotten": max(events, default=None),
    }  # fmt: skip
    for name in COLUMNS_OF[kind]:
        mean, count = mean_of([row[name] for row in rows.values()])
        found["aum" if name == "margin" else name] = mean
        found[f"{name}_epochs"] = count
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_running_values_equal_a_loop(kind, tmp_path):
    files, seen = written(tmp_path, kind)
    running, groups = read(tmp_path, "running.parquet"), read(tmp_path, "groups.parquet")
    members = dict.fromkeys(sample_groups.GROUPS, 0)
    for name, row in running.items():
        wanted = expected(kind, seen[name])
        for column, value in row.items():
            if column not in ("index", "labels", "mean_probability"):
                assert value == (pytest.approx(wanted[column], rel=1e-5) if wanted[column] is not None else None), (
                    column
                )
        level = wanted["aum"] if kind == "multilabel" else wanted["score"]
        least = 0 if kind == "multilabel" else 0.5
        is_easy = wanted["learned"] is not None and wanted["learned"] <= 3 and not wanted["forgotten"]
        is_easy = is_easy and wanted["epochs"] >= 3 and (level is None or level >= least)
        assert groups[name]["easy"] == is_easy
        assert groups[name]["stuck"] == (wanted["learned"] is None and wanted["epochs"] >= 3)
        assert groups[name]["newly_wrong"] == (wanted["last_forgotten"] == EPOCHS)
        for group in members:
            members[group] += groups[name][group]
    assert min(members.values()) > 0, members
    assert files.epoch == EPOCHS


@pytest.mark.parametrize("kind", KINDS)
def test_without_running_values_they_are_counted_again_from_the_files_of_epochs(kind, tmp_path):
    files, _ = written(tmp_path, kind)
    whole = read(tmp_path, "running.parquet")
    nothing = SampleRows(
        np.arange(0), [], np.zeros((0, len(COLUMNS_OF[kind])), np.float32), np.zeros((0, 0), np.float16), kind
    )
    (tmp_path / "running.parquet").unlink()
    (tmp_path / ".running-before.parquet").unlink()
    assert files.epoch == 0
    # Nothing is lost of these, and no line says so.
    assert files.add(EPOCHS + 1, nothing)
    for name, row in read(tmp_path, "running.parquet").items():
        for column, value in row.items():
            wanted = whole[name][column]
            assert value == (pytest.approx(wanted, rel=1e-4, abs=1e-5) if isinstance(wanted, float) else wanted), column


def test_the_last_epochs_tell_which_boxes_are_wrong(tmp_path, monkeypatch):
    given = {}

    def find(recent):
        given.update(recent=recent)
        found = Suspects.of("region", np.array([2, 0]), np.array([1, 1]), np.array([0, 0]), np.array([0.9, 0.3]))
        again = Suspects.of("missing_box", np.array([2]), np.array([-1]), np.array([5]), np.array([0.4]))
        return Suspects.joined([Suspects(**{**vars(found), "where": ["1 2 3 4", ""]}), again])

    monkeypatch.setattr(sample_groups, "find_box_suspects", find)
    files, seen = written(tmp_path, "detection")
    found = write_groups(files)
    ids = pl.read_parquet(tmp_path / "ids.parquet")["id"].to_list()
    assert [len(of["score"]) for of in given["recent"]] == [COUNT] * 3
    for number, name in enumerate(ids):
        for epoch, of in zip(range(EPOCHS - 2, EPOCHS + 1), given["recent"], strict=True):
            value = seen[name].get(epoch, {}).get("score", math.nan)
            assert of["score"][number] == pytest.approx(value, nan_ok=True, rel=1e-4)
    assert [(row.number, row.kind, row.where) for row in found.rows()] == [
        (2, "region", "1 2 3 4"), (2, "missing_box", ""), (0, "region", ""),
    ]  # fmt: skip
    rows = read(tmp_path, "groups.parquet")
    assert [rows[ids[number]]["suspect_rank"] for number in range(3)] == [2, None, 1]
    assert (rows[ids[2]]["suspect_kind"], rows[ids[2]]["suspect_label"], rows[ids[2]]["likely"]) == ("region", 1, 0)
    assert found.scalars()["9_history/suspects"] == 2
    assert isinstance(found, FoundGroups)
