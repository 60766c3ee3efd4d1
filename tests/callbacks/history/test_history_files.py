"""The files of samples, as they are written epoch by epoch."""

import numpy as np
import polars as pl
import pytest
import torch
from kit import Killed, fit
from made_history import Outputs, files_of, items, linear, read, row_of, rows_of, shares_of
from torch.utils.data import DataLoader

from assay.callbacks import SampleHistory
from assay.callbacks.history import files as sample_files
from assay.callbacks.history.collected import SampleRows
from assay.callbacks.history.files import NUMBERS, SampleFiles
from assay.callbacks.support.atomic_files import replacing
from assay.runner import DictRunner


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
