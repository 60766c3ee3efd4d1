"""The files of samples against plain loops over the outputs of the same run, and what interrupts a run."""

import itertools
import json
import logging
import math

import duckdb
import numpy as np
import polars as pl
import pytest
import torch
from catalyst import dl
from kit import SIDES, Kill, Killed, Named, fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory, UsageError
from assay.callbacks.history import files as sample_files
from assay.callbacks.history import sample_history
from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import NUMBERS, SampleFiles
from assay.callbacks.support.atomic_files import replacing
from assay.runner import Checkpoints, DictRunner, Monitor

COUNT, CLASSES, EPOCHS = 30, 3, 4
LOADERS = ("train", "valid")
OF_SUSPECTS = ("likely", "suspect_score", "suspect_rank", "suspect_kind", "suspect_label")


def items(names=("image", "target", "sample_id"), count=COUNT, ids=True, classes=CLASSES):
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, 4, 4, generator=draw)
    labels = torch.randint(0, classes, (count,), generator=draw).tolist()
    found = [{names[0]: image, names[1]: label} for image, label in zip(images, labels, strict=True)]
    return [{**item, names[2]: f"s{i:02}.png"} for i, item in enumerate(found)] if ids else found


def linear(key="logits", outputs=CLASSES):
    torch.manual_seed(0)
    return Named(nn.Sequential(nn.Flatten(), nn.Linear(16, outputs)), key)


class Outputs(dl.Callback):
    """Keeps what the model made of each sample: {(loader, epoch, id): (logits, target)}."""

    def __init__(self, names, key):
        super().__init__(order=200)
        self.names, self.key, self.kept = names, key, {}

    def on_batch_end(self, runner):
        logits = runner.batch[self.key].detach().double()
        for name, row, target in zip(runner.batch[self.names[2]], logits, runner.batch[self.names[1]], strict=True):
            self.kept[runner.loader_key, runner.epoch_step, str(name)] = row.tolist(), int(target)


def read(folder, loader, name):
    """Return a file's rows by id."""
    ids = dict(pl.read_parquet(folder / loader / "ids.parquet").select("index", "id").iter_rows())
    rows = pl.read_parquet(folder / loader / name).iter_rows(named=True)
    return {ids[row["index"]]: row for row in rows}


def shares_of(logits):
    values = np.exp(np.array(logits) - max(logits))
    return values / values.sum()


def row_of(logits, target):
    shares = shares_of(logits)
    prediction = int(np.argmax(logits))
    return {
        "target": target,
        "prediction": prediction,
        "probability": shares[prediction],
        "target_probability": shares[target],
        "margin": logits[target] - max(value for number, value in enumerate(logits) if number != target),
        "el2n": np.linalg.norm(shares - np.eye(len(logits))[target]),
        "loss": -math.log(shares[target]),
    }


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


def assert_row(found, expected, **tolerance):
    for name, value in expected.items():
        if value is None or isinstance(value, bool | int | str | bytes | np.bool_):
            assert found[name] == value, name
        else:
            np.testing.assert_allclose(found[name], value, err_msg=name, **tolerance)


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


def train(folder, *more, epochs=EPOCHS, lr=1.0, **options):
    """Train with every batch saved; return the folder of samples."""
    saving = Checkpoints(folder / "checkpoints", [Monitor.parse("valid/loss:min")], top_k=9, every_n_steps=1)
    data = {key: DataLoader(items(), 4, shuffle=True) for key in LOADERS}
    fit(
        DictRunner(), linear(), data, [SampleHistory(), saving, *more], epochs=epochs, lr=lr, logdir=str(folder),
        seed=1, **options,
    )  # fmt: skip
    return folder / "samples"


def files_of(folder):
    """Return what the files hold by name, each as rows."""
    paths = sorted(folder.rglob("[!.]*.parquet"))
    return {path.relative_to(folder).as_posix(): pl.read_parquet(path).to_dicts() for path in paths}


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


def rows_of(ids, margin=1.0, prediction=0, classes=0):
    numbers = np.zeros((len(ids), len(NUMBERS)), np.float32)
    numbers[:, NUMBERS.index("margin")] = margin
    numbers[:, NUMBERS.index("prediction")] = prediction
    return SampleRows(np.arange(len(ids)), list(ids), numbers, np.zeros((len(ids), classes), np.float16))


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


def test_samples_that_come_later_or_stay_away_keep_their_numbers(tmp_path):
    files = SampleFiles(tmp_path / "valid")
    for epoch, ids in enumerate(("ab", "ca", "db"), start=1):
        files.add(epoch, rows_of(ids, margin=epoch, prediction=epoch % 2))
    ids = pl.read_parquet(tmp_path / "valid" / "ids.parquet")
    assert ids.rows() == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]
    running = read(tmp_path, "valid", "running.parquet")
    assert {name: (row["epochs"], row["aum"]) for name, row in running.items()} == {
        "a": (2, 1.5), "b": (2, 2.0), "c": (1, 2.0), "d": (1, 3.0),
    }  # fmt: skip
    # Wrong in epochs 1 and 3, right in 2.
    assert {name: (row["learned"], row["forgotten"], row["correct"]) for name, row in running.items()} == {
        "a": (2, 0, True), "b": (None, 0, False), "c": (2, 0, True), "d": (None, 0, False),
    }  # fmt: skip


def test_a_sample_that_an_epoch_shows_twice_counts_once(tmp_path):
    files, rows = SampleFiles(tmp_path / "valid"), rows_of("abab", margin=[1, 2, 3, 4])
    files.add(1, rows)
    found = read(tmp_path, "valid", "epoch-000001.parquet")
    assert {name: row["margin"] for name, row in found.items()} == {"a": 1.0, "b": 2.0}


def test_ids_of_any_kind_are_their_texts(tmp_path):
    hostile = ["", "ä/ö", "a\nb", "<script>", "'\"", "\x00", "7"]
    files = SampleFiles(tmp_path / "valid")
    files.add(1, rows_of(hostile))
    assert pl.read_parquet(tmp_path / "valid" / "ids.parquet")["id"].to_list() == hostile


@pytest.mark.parametrize("step", ["before the first rename", "between the renames", "before the rows"])
def test_a_kill_while_files_are_written_loses_nothing(step, tmp_path, monkeypatch):
    def write(files, epochs):
        for epoch in epochs:
            files.cut(epoch - 1)
            files.add(epoch, rows_of("abc", margin=epoch, classes=2))

    straight, files = SampleFiles(tmp_path / "straight" / "x"), SampleFiles(tmp_path / "killed" / "x")
    write(straight, range(1, 5))
    write(files, (1, 2))
    if step == "before the rows":
        monkeypatch.setattr(SampleFiles, "_write_epoch", lambda *_: (_ for _ in ()).throw(Killed))
    else:
        left = {"before the first rename": 1, "between the renames": 2}[step]
        replace, calls = sample_files.os.replace, []

        def fail(source, target):
            calls.append(source)
            if len(calls) > left:
                raise Killed
            replace(source, target)

        monkeypatch.setattr(sample_files.os, "replace", fail)
    with pytest.raises(Killed):
        write(files, (3,))
    monkeypatch.undo()
    write(files, (3, 4))
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "straight")


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


def best_of(all_logits, target):
    """Return the mean probabilities of the target and of the ten largest others, by a loop over the epochs."""
    kept = {}
    for epoch, logits in enumerate(all_logits, start=1):
        shares = shares_of(logits)
        kept = {number: mean * (epoch - 1) / epoch for number, mean in kept.items()}
        for number in np.argsort(-shares)[:10].tolist():
            kept[number] = kept.get(number, 0.0) + shares[number] / epoch
        kept.pop(target, None)
        kept = dict(sorted(kept.items(), key=lambda item: -item[1])[:10])
    return {target: np.mean([shares_of(logits)[target] for logits in all_logits]), **kept}


@pytest.mark.parametrize("classes", [200, 201, 1000])
def test_of_more_than_200_classes_the_target_and_the_ten_best_are_kept(classes, tmp_path):
    seen = Outputs(("image", "target", "sample_id"), "logits")
    model, data = linear(outputs=classes), items(classes=classes)
    data[0]["image"] = data[0]["image"] * torch.nan
    fit(
        DictRunner(), model, {"valid": DataLoader(data, 4)}, [SampleHistory(), seen], optimizer=None,
        logdir=str(tmp_path),
    )  # fmt: skip
    running = read(tmp_path / "samples", "valid", "running.parquet")
    assert ("mean_classes" in running["s01.png"]) == (classes > 200)
    for name, row in running.items():
        logits, target = seen.kept["valid", 1, name]
        if name == "s00.png":
            assert row["mean_probability"] is row.get("mean_classes") is None
        elif classes == 200:
            np.testing.assert_allclose(row["mean_probability"], shares_of(logits), rtol=2e-3)
        else:
            wanted = best_of([logits], target)
            assert row["mean_classes"][0] == target and set(row["mean_classes"]) == set(wanted)
            of_class = dict(zip(row["mean_classes"], row["mean_probability"], strict=True))
            assert of_class == pytest.approx(wanted, rel=2e-3)


def test_means_of_the_ten_best_over_epochs_equal_a_loop(tmp_path):
    draw = np.random.default_rng(0)
    # Of few classes, so that the ten best of the epochs overlap; there are never as many samples in an epoch.
    files, seen = SampleFiles(tmp_path / "valid"), {name: [] for name in "abcdef"}
    for epoch in range(1, 7):
        ids = [name for name in seen if epoch == 1 or draw.random() < 0.7]
        logits = {name: draw.normal(size=24) * 3 for name in ids}
        for name in ids:
            seen[name].append(logits[name])
        files.add(epoch, rows_of_best(ids, logits))
    running = read(tmp_path, "valid", "running.parquet")
    for number, (name, all_logits) in enumerate(seen.items()):
        wanted = best_of(all_logits, number)
        found = dict(zip(running[name]["mean_classes"], running[name]["mean_probability"], strict=True))
        assert found == pytest.approx(wanted, rel=3e-3, abs=1e-4)
        assert running[name]["mean_classes"][0] == number


def rows_of_best(ids, logits):
    rows = [row_of(logits[name], "abcdef".index(name)) for name in ids]
    shares = [shares_of(logits[name]) for name in ids]
    best = [np.argsort(-of)[:10] for of in shares]
    numbers = np.array(
        [[*(row[name] for name in NUMBERS), *of] for row, of in zip(rows, best, strict=True)], np.float32
    )
    means = np.array([of[which] for of, which in zip(shares, best, strict=True)], np.float16)
    return SampleRows(np.arange(len(ids)), list(ids), numbers, means)


def test_what_another_thread_is_writing_stays_and_what_a_killed_process_left_goes(tmp_path):
    files = SampleFiles(tmp_path)
    with replacing(tmp_path / "thumbnails-000001.parquet") as temporary:
        temporary.write_bytes(b"a part")
        files.cut(1)
        assert temporary.exists()
    left = tmp_path / f".{'x' * 3}.tmp"
    left.write_bytes(b"a part")
    files.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["thumbnails-000001.parquet"]
