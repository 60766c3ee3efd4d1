"""Samples whose duplicates have another label, from the findings of a run to the table of suspects."""

import csv
import json
import logging

import numpy as np
import polars as pl
import pytest
import torch
from kit import Named, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import Findings, SampleHistory
from assay.callbacks.history.duplicates import find_duplicates, find_duplicates_of_labels, read_duplicates
from assay.runner import DictRunner


def row(loader, name, *label):
    return {"loader": loader, "sample_id": name, "label": list(label)}


def test_the_labels_of_duplicates_are_read_by_sample(tmp_path):
    groups = [[row("train", "a", 1), row("train", "b", 2), row("valid", "c", 1), row("train", "d", 2)]]
    more = [[row("train", "a", 1), row("valid", "e", 3)]]
    path = tmp_path / "findings.json"
    path.write_text(json.dumps([{"rule": "one", "groups": groups}, {"rule": "other"}, {"rule": "two", "groups": more}]))
    assert read_duplicates(path, "train") == {"a": [(2,), (1,), (3,)], "b": [(1,), (2,)], "d": [(1,), (2,)]}
    assert read_duplicates(path, "valid") == {"c": [(1,), (2,)], "e": [(1,)]}


@pytest.mark.parametrize("text", [None, "{", "3", "[3]", '[{"groups": [[{"loader": "train"}]]}]', '[{"groups": 3}]'])
def test_what_is_no_file_of_findings_names_no_duplicates(text, tmp_path):
    if text is not None:
        (tmp_path / "findings.json").write_text(text)
    assert read_duplicates(tmp_path / "findings.json", "train") == {}


def test_the_score_is_that_of_the_likelier_label():
    index, target = np.array([2, 5, 7]), np.array([0, 1, 1])
    found = find_duplicates(index, [[(1,), (0,)], [(1,)], [(0,), (2,)]], target, {2: {0: 0.1, 1: 0.8}})
    rows = zip(found.index.tolist(), found.kinds, found.target.tolist(), found.likely.tolist(), strict=True)
    assert [*rows] == [(2, "duplicate", 0, 1), (7, "duplicate", 1, 0), (7, "duplicate", 1, 2)]
    assert found.score == pytest.approx([0.85, 0.5, 0.5])


def test_each_label_that_differs_is_a_suspect():
    labels, shares = np.array([[1, 0, -1, 1]]), np.array([[0.2, 0.9, 0.5, np.nan]])
    found = find_duplicates_of_labels(np.array([4]), [[(0, 1, 1, 0), (1, 1, 0, 1), (1, 1)]], labels, shares)
    rows = zip(found.target.tolist(), found.likely.tolist(), found.score.tolist(), strict=True)
    assert [*rows] == [(-1, 1, pytest.approx(0.9)), (0, -1, pytest.approx(0.8)), (3, -1, 0.5)]


def items():
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(60, 1, 12, 12, generator=draw)
    found = [{"image": image, "target": number % 3, "sample_id": f"s{number}"} for number, image in enumerate(images)]
    return [*found, {**found[7], "target": 0, "sample_id": "copy"}, {**found[9], "sample_id": "alike"}]


def test_duplicates_with_other_labels_are_suspects_of_a_run(tmp_path, caplog):
    torch.manual_seed(0)
    data = items()
    with caplog.at_level(logging.INFO, "assay"):
        fit(
            DictRunner(), Named(nn.Sequential(nn.Flatten(), nn.Linear(144, 3))), {"train": DataLoader(data, 8)},
            [SampleHistory(thumbnails=False), Findings("full", stop=False)], epochs=3, lr=0.0, logdir=str(tmp_path),
        )  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "results" / "suspects.csv").read_text().splitlines()))
    found = {one["sample_id"]: one for one in rows if one["kind"] == "duplicate"}
    assert {name: (one["label"], one["likely_label"]) for name, one in found.items()} == {
        "s7": ("1", "0"), "copy": ("0", "1"),
    }  # fmt: skip
    folder = tmp_path / "samples" / "train"
    ids = pl.read_parquet(folder / "ids.parquet")["id"].to_list()
    running = pl.read_parquet(folder / "running.parquet").to_dicts()
    means = {name: running[ids.index(name)]["mean_probability"] for name in found}
    assert float(found["copy"]["score"]) == pytest.approx((1 + means["copy"][1] - means["copy"][0]) / 2, abs=1e-4)
    groups = {ids[one["index"]]: one for one in pl.read_parquet(folder / "groups.parquet").to_dicts()}
    assert groups["copy"]["suspect_kind"] == groups["s7"]["suspect_kind"] == "duplicate"
    assert (groups["s7"]["likely"], groups["s7"]["suspect_label"]) == (0, 1)
    said = [record.getMessage() for record in caplog.records if "as a duplicate has another one" in record.getMessage()]
    assert len(said) == 1 and said[0].startswith("2 labels of train may be wrong, as a duplicate has another one (")
