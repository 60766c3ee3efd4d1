"""Suspects of several labels against a loop over labels, and in runs with labels that are known to be wrong."""

import csv
import json
import logging

import numpy as np
import polars as pl
import pytest
import torch
from kit import Kill, Killed, Named, fit
from test_suspects import by_hand
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.history.batch_numbers import MOST_CLASSES, joined_labels, parted
from assay.callbacks.history.suspect_labels import find_label_suspects, rank_label_sets
from assay.callbacks.history.suspects import SUSPECT_KINDS, Suspects
from assay.runner import Checkpoints, DictRunner

LABELS, COUNT, SHARE = 4, 240, 0.05


def made(seed, count=300, share=0.1):
    """Return labels, of which a share is wrong, probabilities of labels, and which are wrong, [n, C] each."""
    draw = np.random.default_rng(seed)
    truth = draw.random((count, LABELS)) < [0.5, 0.2, 0.05, 0.4]
    wrong = draw.random(truth.shape) < share
    logits = np.where(truth, 2, -2) + draw.normal(0, 1.2, truth.shape)
    return (truth ^ wrong).astype(np.int8), 1 / (1 + np.exp(-logits)), wrong


@pytest.mark.parametrize("seed", range(4))
def test_label_suspects_are_those_of_a_loop_for_each_label(seed):
    labels, shares, _ = made(seed)
    labels[5], labels[6, 1] = -1, -1
    found = find_label_suspects(labels, shares)
    expected = set()
    for number in range(LABELS):
        known = [index for index in range(len(labels)) if labels[index, number] >= 0]
        both = [[1 - shares[index, number], shares[index, number]] for index in known]
        chosen = by_hand([int(labels[index, number]) for index in known], both, least_score=0.3)
        expected |= {(known[place], number) for place in chosen}
    rows = list(zip(found.index.tolist(), found.kinds, found.target.tolist(), found.likely.tolist(), strict=True))
    assert {(index, max(target, likely)) for index, _, target, likely in rows} == expected != set()
    for (index, kind, target, likely), score in zip(rows, found.score, strict=True):
        number = max(target, likely)
        is_there = labels[index, number] == 1
        assert (kind, target, likely) == (("false_label", number, -1) if is_there else ("missing_label", -1, number))
        assert score == pytest.approx(abs(2 * shares[index, number] - 1))
    assert (np.diff(found.score) <= 0).all()


def test_two_wrong_labels_of_many_are_suspects_and_right_ones_are_none():
    labels = np.array([[1, 0], [0, 1]] * 100)
    shares = np.where(labels == 1, 0.9, 0.1)
    assert len(find_label_suspects(labels, shares)) == 0
    shares[7], shares[90, 1] = [0.8, 0.1], 0.7
    found = find_label_suspects(labels, shares)
    assert {(index, kind) for index, kind in zip(found.index.tolist(), found.kinds, strict=True)} >= {
        (7, "missing_label"), (7, "false_label"), (90, "missing_label"),
    }  # fmt: skip


def test_each_sample_is_ranked_by_its_least_likely_label():
    labels, shares, _ = made(0, count=50)
    labels[4] = -1
    score, which = rank_label_sets(labels, shares)
    for index, (own, share) in enumerate(zip(labels.tolist(), shares.tolist(), strict=True)):
        excess = {n: (1 - 2 * p if label else 2 * p - 1) for n, (label, p) in enumerate(zip(own, share, strict=True))}
        if index == 4:
            assert np.isnan(score[index]) and which[index] == -1
        else:
            assert score[index] == pytest.approx(max(excess.values()))
            assert which[index] == max(excess, key=excess.get)


def test_probabilities_and_labels_take_one_number_each():
    logits = torch.tensor([[-30.0, -30.0, 30.0, 30.0, 0.3, -2.0]])
    target = torch.tensor([[0, 1, 0, 1, 7, 9]])
    both = joined_labels(logits, target, ignore_index=7).half().numpy()
    shares, labels = parted("multilabel", both)
    assert labels.tolist() == [[0, 1, 0, 1, -1, -1]]
    np.testing.assert_allclose(shares[0], logits[0].sigmoid(), atol=2e-3)


def test_suspects_of_several_parts_are_sorted_and_each_sample_has_a_first_one():
    one = Suspects.of("region", np.array([3, 1]), np.array([0, 1]), np.array([1, 0]), np.array([0.9, 0.2]))
    other = Suspects.of("missing_box", np.array([1]), np.array([-1]), np.array([4]), np.array([0.5]))
    found = Suspects.joined([Suspects(**{**vars(one), "where": ["1 2 3 4", ""]}), other])
    assert (found.index.tolist(), found.kinds) == ([3, 1, 1], ["region", "missing_box", "region"])
    assert (found.places, found.is_first.tolist()) == (["1 2 3 4", "", ""], [True, True, False])
    assert len(Suspects.joined([])) == 0 and set(found.kinds) <= {*SUSPECT_KINDS}


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        near = isinstance(value, float) or name == "mean_probability"
        assert found[name] == (
            pytest.approx(value, rel=1e-4, abs=1e-3 if name == "mean_probability" else None) if near else value
        ), name


def items(share=SHARE, count=COUNT, labels=LABELS):
    """Return samples of several labels, and which labels are wrong, {(id, label)}."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(count, 24, generator=draw)
    truth = (images @ torch.randn(24, labels, generator=draw) > 2).float()
    wrong = torch.rand(truth.shape, generator=draw) < share
    target = torch.where(wrong, 1 - truth, truth)
    names = [f"s{number:03}" for number in range(count)]
    return [
        {"image": image, "target": row, "sample_id": name}
        for image, row, name in zip(images, target, names, strict=True)
    ], {(names[row], label) for row, label in wrong.nonzero().tolist()}


def masked_loss(output, target):
    losses = nn.functional.binary_cross_entropy_with_logits(output, target.clamp(0, 1), reduction="none")
    return (losses * (target <= 1)).mean()


def train(folder, *more, data=None, epochs=4, lr=1e-2, labels=LABELS, **options):
    torch.manual_seed(0)
    model = Named(nn.Linear(24, labels))
    loaders = {"train": DataLoader(items()[0] if data is None else data, 16, shuffle=True)}
    history = SampleHistory("multilabel", class_names=[f"n{number}" for number in range(labels)])
    saving = Checkpoints(folder / "checkpoints", every_n_steps=3)
    fit(
        DictRunner(), model, loaders, [history, saving, *more], criterion=masked_loss,
        optimizer=torch.optim.Adam(model.parameters(), lr), epochs=epochs, logdir=str(folder), seed=1, **options,
    )  # fmt: skip
    path = folder / "results" / "suspects.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else None


def read(folder, name):
    ids = dict(pl.read_parquet(folder / "ids.parquet").select("index", "id").iter_rows())
    return {ids[row["index"]]: row for row in pl.read_parquet(folder / name).iter_rows(named=True)}


def test_wrong_labels_are_found_and_told_by_what_is_wrong(tmp_path, caplog):
    data, wrong = items()
    with caplog.at_level(logging.INFO, "assay"):
        rows = train(tmp_path, data=data, epochs=12)
    target = {item["sample_id"]: item["target"] for item in data}
    found = {(row["sample_id"], int((row["label"] or row["likely_label"])[1:])): row for row in rows}
    for (name, number), row in found.items():
        kind = "false_label" if target[name][number] else "missing_label"
        assert (row["kind"], bool(row["label"]), bool(row["likely_label"])) == (
            kind, kind == "false_label", kind == "missing_label",
        )  # fmt: skip
    assert len(found.keys() & wrong) / len(found) > 0.7
    assert len(found.keys() & wrong) / len(wrong) > 0.4
    said = [record.getMessage() for record in caplog.records if " of train may be " in record.getMessage()]
    assert len(said) == 2
    missing = [row for row in rows if row["kind"] == "missing_label"]
    first = missing[0]
    assert (
        f"{len(missing)} labels of train may be missing ({first['sample_id']} is likely {first['likely_label']} too, "
        in ("\n".join(said))
    )


def test_groups_and_means_of_several_labels_equal_a_loop(tmp_path):
    data, _ = items(count=40)
    data[3]["target"] = torch.full((LABELS,), 9.0)  # which is no label
    train(tmp_path, data=data, lr=0.0, epochs=3)
    folder = tmp_path / "samples" / "train"
    running, groups = read(folder, "running.parquet"), read(folder, "groups.parquet")
    torch.manual_seed(0)
    model = nn.Linear(24, LABELS)
    ranks = {}
    for item in data:
        logits = model(item["image"]).detach()
        row, name = running[item["sample_id"]], item["sample_id"]
        if name == "s003":
            assert (row["epochs"], row["labels"], row["aum"]) == (0, None, None)
            continue
        margins = torch.where(item["target"] == 1, logits, -logits)
        right = bool((margins > 0).all())
        assert row["mean_probability"] == pytest.approx(logits.sigmoid().tolist(), abs=1e-3)
        assert row["labels"] == (item["target"] == 1).tolist()
        assert (row["epochs"], row["correct"], row["learned"], row["forgotten"]) == (3, right, 1 if right else None, 0)
        assert (row["aum"], row["wrong_labels"]) == pytest.approx(
            (float(margins.min()), int((margins < 0).sum())), rel=1e-4
        )
        assert groups[name]["stuck"] != right == groups[name]["easy"]
        excess = (-torch.tanh(margins / 2)).max()  # 1 - 2 sigmoid
        assert groups[name]["suspect_score"] == pytest.approx(float(excess), abs=2e-3)
        if groups[name]["suspect_rank"]:
            ranks[groups[name]["suspect_rank"]] = groups[name]
    assert sorted(ranks) == [*range(1, len(ranks) + 1)] and ranks
    for row in ranks.values():
        assert row["suspect_kind"] in ("missing_label", "false_label")
        assert (row["suspect_label"] is None) == (row["suspect_kind"] == "missing_label") != (row["likely"] is None)
    assert json.loads((folder / "about.json").read_text())["task"] == "multilabel"


def files_of(folder):
    return {path.name: pl.read_parquet(path).to_dicts() for path in sorted(folder.rglob("[!.]*.parquet"))}


@pytest.mark.parametrize(("epoch", "batch"), [(3, 5), (4, 9)])
def test_a_run_with_several_labels_that_is_killed_and_resumed_has_the_same_files(epoch, batch, tmp_path):
    straight = train(tmp_path / "straight"), files_of(tmp_path / "straight")
    with pytest.raises(Killed):
        train(tmp_path / "killed", Kill(epoch, batch))
    again = train(tmp_path / "killed", resume=str(tmp_path / "killed"))
    assert (again, files_of(tmp_path / "killed")) == straight and again


def test_running_values_of_a_version_that_had_none_are_counted_again(tmp_path, caplog):
    train(tmp_path, lr=0.0, epochs=3)
    folder = tmp_path / "samples" / "train"
    straight = read(folder, "running.parquet")
    for name in ("running.parquet", ".running-before.parquet", "groups.parquet"):
        (folder / name).unlink()
    with caplog.at_level(logging.WARNING, "assay"):
        train(tmp_path, lr=0.0, epochs=4, resume=str(tmp_path))
    for name, row in read(folder, "running.parquet").items():
        assert row.pop("mean_probability") is row.pop("labels") is None
        assert (row.pop("epochs"), row.pop("loss_epochs")) == (4, 4)
        assert_same(row, {key: straight[name][key] for key in row})
    assert "counted again" in caplog.text


def of_rank(folder):
    train(folder, lr=0.0)
    rows = {name: read(folder / "samples" / "train", name) for name in ("running.parquet", "groups.parquet")}
    return rows, (folder / "results" / "suspects.csv").read_text()


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_find_the_same_label_suspects(processes, rank_processes, tmp_path):
    alone, table = of_rank(tmp_path / "one")
    many, other_table = rank_processes.run(processes, of_rank, tmp_path / "many")[0]
    assert sorted(other_table.splitlines()) == sorted(table.splitlines())
    for name, rows in alone.items():
        for one, row in rows.items():
            row.pop("index"), many[name][one].pop("index")
            assert_same(many[name][one], row)


def test_of_very_many_labels_none_is_said_to_be_wrong(tmp_path, caplog):
    labels = MOST_CLASSES + 1
    with caplog.at_level(logging.WARNING, "assay"):
        assert train(tmp_path, data=items(count=32, labels=labels)[0], labels=labels) is None
    said = [record.getMessage() for record in caplog.records if "SampleHistory" in record.getMessage()]
    assert said == ["SampleHistory finds no wrong labels, as there are more than 200 of them"]
    running = read(tmp_path / "samples" / "train", "running.parquet")
    assert {row["epochs"] for row in running.values()} == {4}
