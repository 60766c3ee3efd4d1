"""Groups of samples against plain loops over what was predicted in each epoch, and the file and the tags of them."""

import csv
import itertools

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from kit import Kill, Killed, Named, fit, read_events, scalars_of
from sklearn.metrics import average_precision_score
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import NUMBERS, SampleFiles
from assay.callbacks.history.groups import GROUPS, write_groups
from assay.callbacks.history.suspect_table import HEADER
from assay.callbacks.history.suspects import find_suspects
from assay.runner import Checkpoints, DictRunner

SCALARS = {"9_history/suspects", *(f"9_history/{name}" for name in GROUPS)}


def groups_of(seen, last_epoch):
    """Return the groups of a sample by its story: [(epoch, right, probability of the target)], of seen epochs."""
    right = {epoch: is_right for epoch, is_right, _ in seen}
    epochs = list(right)
    learned = next((epoch for epoch in epochs if right[epoch]), None)
    events = [now for before, now in itertools.pairwise(epochs) if right[before] and not right[now]]
    confidence = sum(probability for *_, probability in seen) / len(seen) if seen else 0
    return {
        "stuck": len(seen) >= 3 and learned is None,
        "newly_wrong": last_epoch in events,
        "forgotten": learned is not None and not right[epochs[-1]],
        "unstable": len(events) >= 2 and len(events) >= len(seen) / 10,
        "easy": len(seen) >= 3 and learned is not None and learned <= 3 and not events and confidence >= 0.5,
    }


def rows_of(names, target, shares):
    numbers = np.zeros((len(names), len(NUMBERS)), np.float32)
    prediction, rows = shares.argmax(axis=1), np.arange(len(names))
    columns = {
        "target": target, "prediction": prediction, "probability": shares.max(axis=1),
        "target_probability": shares[rows, target], "margin": shares[rows, target] - 0.5,
    }  # fmt: skip
    for name, values in columns.items():
        numbers[:, NUMBERS.index(name)] = values
    return SampleRows(rows, list(names), numbers, shares.astype(np.float16))


def read(folder, name="groups.parquet"):
    ids = dict(pl.read_parquet(folder / "ids.parquet").select("index", "id").iter_rows())
    return {ids[row["index"]]: row for row in pl.read_parquet(folder / name).iter_rows(named=True)}


def test_groups_equal_a_loop_where_epochs_leave_samples_out(tmp_path):
    draw = np.random.default_rng(0)
    names, target = [f"s{number}" for number in range(300)], draw.integers(0, 3, 300)
    stories, means = {name: [] for name in names}, {name: [] for name in names}
    files = SampleFiles(tmp_path / "train")
    occurred = set()
    # Some samples are learned at once, some late, some never, and some again and again.
    skill, noise = draw.normal(0, 2, 300), draw.choice([0.05, 0.5, 3.0], 300)
    for epoch in range(1, 25):
        seen = np.flatnonzero(draw.random(300) < 0.8)
        logits = draw.normal(0, 1, (len(seen), 3)) * noise[seen, None]
        logits[np.arange(len(seen)), target[seen]] += skill[seen] + 0.1 * epoch
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        files.add(epoch, rows_of([names[at] for at in seen], target[seen], shares))
        for at, share in zip(seen, shares, strict=True):
            stories[names[at]].append((epoch, share.argmax() == target[at], share[target[at]]))
            means[names[at]].append(share)
        found, rows = write_groups(files), read(tmp_path / "train")
        assert rows.keys() == {name for name in names if stories[name]}
        expected = {name: groups_of(stories[name], epoch) for name in rows}
        assert {name: {group: row[group] for group in GROUPS} for name, row in rows.items()} == expected
        counts = {group: sum(of[group] for of in expected.values()) for group in GROUPS}
        assert found.counts == counts and found.epoch == epoch
        occurred |= {group for group, count in counts.items() if 0 < count < len(rows)}
        check_labels(rows, found, {name: np.mean(of, axis=0) for name, of in means.items() if of}, names, target, epoch)
    assert occurred == set(GROUPS)


def check_labels(rows, found, means, names, target, epoch):
    if epoch < 3:
        assert found.suspects is None and "9_history/suspects" not in found.scalars()
        assert all(row["likely"] is row["suspect_rank"] is row["suspect_score"] is None for row in rows.values())
        return
    labels = dict(zip(names, target.tolist(), strict=True))
    for name, row in rows.items():
        others = {of: share for of, share in enumerate(means[name]) if of != labels[name]}
        np.testing.assert_allclose(row["suspect_score"], max(others.values()) - means[name][labels[name]], atol=1e-3)
        np.testing.assert_allclose(others[row["likely"]], max(others.values()), atol=1e-3)
    ranked = sorted((row["suspect_rank"], name) for name, row in rows.items() if row["suspect_rank"])
    assert [rank for rank, _ in ranked] == [*range(1, len(found.suspects) + 1)]
    assert [name for _, name in ranked] == found.ids
    scores = [rows[name]["suspect_score"] for name in found.ids]
    assert scores == sorted(scores, reverse=True)
    known = list(rows)
    plain = find_suspects(np.array([labels[name] for name in known]), np.array([means[name] for name in known]))
    # Means of what has three digits may differ by as much.
    assert len({known[at] for at in plain.index} ^ set(found.ids)) <= 0.05 * len(plain) + 2


def test_without_running_values_there_are_no_groups(tmp_path):
    files = SampleFiles(tmp_path / "train")
    assert write_groups(files) is None
    shares = np.array([[0.9, 0.1], [0.2, 0.8]])
    files.add(1, rows_of(["a", "b"], np.array([0, 0]), shares))
    assert write_groups(files).counts == dict.fromkeys(GROUPS, 0)
    (tmp_path / "train" / "running.parquet").unlink()
    assert write_groups(files) is None
    assert not (tmp_path / "train" / "groups.parquet").exists()


def test_lists_of_the_likeliest_classes_may_differ_in_length(tmp_path):
    files, path = SampleFiles(tmp_path / "train"), tmp_path / "train" / "running.parquet"
    shares = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]])
    for epoch in (1, 2, 3):
        files.add(epoch, rows_of("abcd", np.array([0, 0, 0, 2]), shares))
    some = pq.read_table(path).drop_columns("mean_probability")
    some = some.append_column("mean_classes", pa.array([[0, 1], [2, 0, 1], [0], [2, 0]], pa.list_(pa.int32())))
    means = pa.array([[0.7, 0.2], [0.7, 0.1, 0.2], [0.6], [0.6, 0.2]], pa.list_(pa.float32()))
    pq.write_table(some.append_column("mean_probability", means), path)
    found, rows = write_groups(files), read(tmp_path / "train")
    assert found.ids == ["b"] and rows["b"]["likely"] == 2
    np.testing.assert_allclose(rows["b"]["suspect_score"], 0.6, rtol=1e-5)


CLASSES, COUNT = 3, 48


def train(folder, *more, epochs=6, lr=1.0, **options):
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(COUNT, 16, generator=draw)
    labels = torch.randint(0, CLASSES, (COUNT,), generator=draw).tolist()
    data = [
        {"image": image, "target": label, "sample_id": f"s{number:02}", "image_path": f"/photos/{number}.png"}
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    torch.manual_seed(0)
    model = Named(nn.Linear(16, CLASSES))
    saving = Checkpoints(folder / "checkpoints", every_n_steps=1)
    fit(
        DictRunner(), model, {key: DataLoader(data, 4, shuffle=key == "train") for key in ("train", "valid")},
        [SampleHistory(), saving, *more], epochs=epochs, lr=lr, logdir=str(folder), seed=1, **options,
    )  # fmt: skip
    return {loader: read(folder / "samples" / loader) for loader in ("train", "valid")}


def test_counts_are_scalars_of_each_loader_and_epoch(tmp_path):
    found = train(tmp_path, epochs=5)
    for loader, rows in found.items():
        scalars = scalars_of(read_events(tmp_path / loader), "2_suspects", "9_history")
        assert set(scalars) == SCALARS
        for tag, values in scalars.items():
            assert [*values] == [*range(3 if tag == "9_history/suspects" else 1, 6)], tag
        for group in GROUPS:
            assert scalars[f"9_history/{group}"][5] == sum(row[group] for row in rows.values())
        suspects = sum(row["suspect_rank"] is not None for row in rows.values())
        assert scalars["9_history/suspects"][5] == suspects
    assert any(row["forgotten"] for row in found["valid"].values())


def test_the_table_of_suspects_names_files_and_epochs(tmp_path):
    found = train(tmp_path, epochs=5)
    rows = list(csv.DictReader((tmp_path / "results" / "suspects.csv").read_text().splitlines()))
    assert rows and list(rows[0]) == [*HEADER]
    for row in rows:
        assert row["file"] == f"/photos/{int(row['sample_id'][1:])}.png"
        assert (row["epochs"], row["kind"], row["where"]) == ("5", "label", "")
        assert int(row["likely_label"]) == found[row["loader"]][row["sample_id"]]["likely"]


@pytest.mark.parametrize(("epoch", "batch"), [(3, 5), (4, 20)])
def test_groups_of_a_run_that_was_killed_and_resumed_are_those_of_one_that_was_not(epoch, batch, tmp_path):
    straight = train(tmp_path / "straight")
    with pytest.raises(Killed):
        train(tmp_path / "killed", Kill(epoch, batch))
    # Killed while the groups were written.
    (tmp_path / "killed" / "samples" / "train" / "groups.parquet").unlink()
    assert train(tmp_path / "killed", resume=str(tmp_path / "killed")) == straight
    scalars = [scalars_of(read_events(tmp_path / of / "train"), "2_", "6_") for of in ("straight", "killed")]
    assert scalars[0] == scalars[1]


def groups_of_rank(folder):
    return train(folder, lr=0.0)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_find_the_same_groups_as_one(processes, rank_processes, tmp_path):
    alone = groups_of_rank(tmp_path / "one")
    many = rank_processes.run(processes, groups_of_rank, tmp_path / "many")[0]
    for loader, rows in alone.items():
        assert many[loader].keys() == rows.keys()
        for name, row in rows.items():
            other = many[loader][name]
            np.testing.assert_allclose(other.pop("suspect_score"), row.pop("suspect_score"), atol=1e-5)
            assert {**other, "index": row["index"]} == row
    assert any(row["stuck"] for row in alone["valid"].values())


def test_mean_probability_ranks_wrong_labels_first(tmp_path):
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 4, 400)
    is_wrong = draw.random(400) < 0.1
    labels = np.where(is_wrong, (truth + 1) % 4, truth)
    files = SampleFiles(tmp_path / "train")
    for epoch in range(1, 6):
        logits = draw.normal(0, 1, (400, 4))
        logits[np.arange(400), truth] += epoch
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        files.add(epoch, rows_of([f"s{number}" for number in range(400)], labels, shares))
    found = write_groups(files)
    scores = pl.read_parquet(tmp_path / "train" / "groups.parquet")["suspect_score"].to_numpy()
    assert average_precision_score(is_wrong, scores) > 0.98
    assert is_wrong[found.suspects.index].mean() > 0.9
