"""Results as files: the same pictures as in TensorBoard, of the right epochs, also after errors and resumes."""

import csv

import cv2
import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Break, Given, Kill, Killed, Scores, fit, read_events
from torch import nn

from assay.callbacks import BestWorstSamples, ConfusionMatrix, Results, UsageError
from assay.runner import DictRunner

NAMES = ["cat", "dog", "owl"]


def data(count=12):
    chance = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 3, generator=chance)
    return [{"image": row, "target": i % 3, "sample_id": f"s{i}"} for i, row in enumerate(logits)]


class Bright(nn.Module):
    """Images [N, 1, 4, 4] to logits by their mean."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 3)

    def forward(self, image):
        return {"logits": self.head(image.flatten(1))}


def pictures(count=12):
    chance = torch.Generator().manual_seed(0)
    images = torch.rand(count, 1, 4, 4, generator=chance)
    return [{"image": image, "target": i % 3, "sample_id": f"s{i}"} for i, image in enumerate(images)]


def train(folder, *more, epochs=3, scores=(0.1, 0.9, 0.5), minimize=False, results=None, **options):
    """Train with a metric ``score`` that is given for each epoch."""
    torch.manual_seed(0)
    shown = [BestWorstSamples(k_samples=3, class_names=NAMES), ConfusionMatrix(class_names=NAMES)]
    results = Results("valid/score", minimize) if results is None else results
    return fit(
        DictRunner(), Bright(), pictures(), [*shown, Scores(*scores), results, *more], batch=4, epochs=epochs,
        logdir=str(folder), seed=1, **options,
    )  # fmt: skip


def tree(folder):
    """Return the content of each file that is seen, by its path."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith(".")}


def in_events(folder, epoch):
    """Return the pictures that TensorBoard reads of an epoch, sorted, by loader."""
    found = {}
    for loader in ("train", "valid"):
        events = read_events(folder / loader)
        images = [image for tag in events.Tags()["images"] for image in events.Images(tag) if image.step == epoch]
        found[loader] = sorted(image.encoded_image_string for image in images)
    return found


def in_files(folder):
    return {
        loader: sorted(path.read_bytes() for path in (folder / loader).glob("*.png")) for loader in ("train", "valid")
    }


def test_the_files_are_the_pictures_of_tensorboard_of_the_last_and_the_best_epoch(tmp_path):
    train(tmp_path)
    results = tmp_path / "results"
    assert in_files(results / "last") == in_events(tmp_path, 3)
    assert in_files(results / "best") == in_events(tmp_path, 2) != in_events(tmp_path, 3)
    names = {path.name for path in (results / "last" / "valid").iterdir()}
    assert any("worst" in name and name.endswith("loss.png") for name in names)
    assert {"confusion_matrix", "worst"} <= {name.split(".")[0] for name in names}
    assert cv2.imread(str(results / "curves.png")).ndim == 3


@pytest.mark.parametrize(("scores", "minimize", "best"), [((0.3, 0.1, 0.2), True, 2), ((0.3, 0.3, 0.2), False, 1)])
def test_the_best_epoch_is_the_first_with_the_best_value(scores, minimize, best, tmp_path):
    train(tmp_path, scores=scores, minimize=minimize)
    assert in_files(tmp_path / "results" / "best") == in_events(tmp_path, best)


def test_values_that_are_not_finite_are_never_the_best(tmp_path):
    train(tmp_path, scores=(float("nan"), float("inf"), float("nan")))
    assert not (tmp_path / "results" / "best").exists()
    assert in_files(tmp_path / "results" / "last") == in_events(tmp_path, 3)


def test_the_table_holds_the_worst_samples_with_truth_and_prediction(tmp_path):
    # The image is the output: no step changes what is worst.
    model = nn.Sequential(nn.Flatten(), Given())
    items = [{**item, "image": item["image"].reshape(1, 1, 3)} for item in data()]
    fit(
        DictRunner(), model, items, [BestWorstSamples(k_samples=4, class_names=NAMES), Results()], batch=5, lr=0.0,
        logdir=str(tmp_path),
    )  # fmt: skip
    with open(tmp_path / "results" / "worst.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    losses = {
        item["sample_id"]: float(nn.functional.cross_entropy(item["image"].flatten(), torch.tensor(item["target"])))
        for item in items
    }
    worst = sorted(losses, key=lambda name: -losses[name])[:4]
    by_id = {item["sample_id"]: item for item in items}
    for loader in ("train", "valid"):
        found = [row for row in rows if row["loader"] == loader]
        assert [row["sample_id"] for row in found] == worst
        assert [row["rank"] for row in found] == ["1", "2", "3", "4"]
        assert [row["target"] for row in found] == [NAMES[by_id[name]["target"]] for name in worst]
        assert [row["prediction"] for row in found] == [NAMES[int(by_id[name]["image"].argmax())] for name in worst]
        np.testing.assert_allclose([float(row["value"]) for row in found], [losses[name] for name in worst], rtol=1e-5)
        assert {(row["epoch"], row["score"]) for row in found} == {("1", "loss")}


def test_the_table_is_that_of_the_best_epoch(tmp_path):
    train(tmp_path)
    with open(tmp_path / "results" / "worst.csv", newline="") as file:
        assert {row["epoch"] for row in csv.DictReader(file)} == {"2"}


LONG = pytest.mark.long("trains to the end, is killed at another place and goes on")


@pytest.mark.parametrize(
    ("epoch", "batch", "every_n_steps"),
    [
        (1, 2, 1),
        (2, 5, None),
        (3, 6, 1),
        *(pytest.param(*at, every, marks=LONG) for at in ((2, 1), (3, 2)) for every in (None, 1)),
        *(pytest.param(*at, marks=LONG) for at in ((1, 2, None), (2, 5, 1), (3, 6, None))),
    ],
)
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_files(epoch, batch, every_n_steps, tmp_path):
    from assay.runner import Checkpoints

    def saving(folder):
        return Checkpoints(folder / "checkpoints", every_n_steps=every_n_steps)

    train(tmp_path / "straight", saving(tmp_path / "straight"))
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        train(killed, saving(killed), Kill(epoch, batch))
    started = (killed / "checkpoints").exists()
    train(killed if started else tmp_path / "again", saving(killed), resume=str(killed) if started else None)
    assert tree((killed if started else tmp_path / "again") / "results") == tree(tmp_path / "straight" / "results")


def test_a_run_that_goes_on_from_an_earlier_epoch_shows_nothing_of_later_ones(tmp_path):
    train(tmp_path / "straight", scores=(0.9, 0.1, 0.5))
    train(tmp_path / "again", epochs=2, scores=(0.9, 0.1))
    run = tmp_path / "again"
    # What a run of other luck left: it was better in its second epoch.
    (run / "results" / "best" / "valid" / "stale.png").write_bytes(b"")
    (run / "results" / ".epochs" / "0002" / "valid" / "stale.png").write_bytes(b"")
    train(run, scores=(0.9, 0.1, 0.5), resume=str(run / "checkpoints" / "epoch-0001.pt"))
    assert tree(run / "results") == tree(tmp_path / "straight" / "results")


def test_half_written_files_of_a_killed_process_are_removed(tmp_path):
    train(tmp_path, epochs=2)
    left = tmp_path / "results" / "last" / "valid" / ".confusion_matrix.png.1.tmp"
    left.write_bytes(b"half")
    train(tmp_path, resume=str(tmp_path))
    assert not left.exists()


def test_after_an_error_the_files_of_the_finished_epochs_stay(tmp_path):
    train(tmp_path / "straight", epochs=1)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path / "failed", Break(epoch=2, loader="train", batch=2))
    assert tree(tmp_path / "failed" / "results") == tree(tmp_path / "straight" / "results")


@pytest.mark.parametrize("epoch", [1, 2])
def test_after_an_error_what_the_broken_epoch_has_drawn_is_shown(epoch, tmp_path):
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, Break(epoch=epoch, loader="valid", batch=2))
    shown, drawn = in_files(tmp_path / "results" / "last"), in_events(tmp_path, epoch)
    assert shown["train"] == drawn["train"] != []
    assert drawn["valid"] == []
    assert shown["valid"] == ([] if epoch == 1 else in_events(tmp_path, 1)["valid"])


def test_a_picture_that_an_epoch_leaves_out_stays_what_it_was(tmp_path):
    class Sometimes(ConfusionMatrix):
        def report(self, runner, writer):
            if runner.epoch_step != 2:
                super().report(runner, writer)

    shown = Sometimes(class_names=NAMES, prefix="rare")
    train(tmp_path, shown, scores=(0.1, 0.9, 0.5), epochs=3)
    events = read_events(tmp_path / "valid")
    (tag,) = [tag for tag in events.Tags()["images"] if "rare" in tag]
    by_epoch = {image.step: image.encoded_image_string for image in events.Images(tag)}
    for kind, epoch in (("best", 1), ("last", 3)):
        (path,) = (tmp_path / "results" / kind / "valid").glob("*rare*.png")
        assert path.read_bytes() == by_epoch[epoch]


def test_only_the_folders_of_the_last_two_epochs_and_of_the_best_are_kept(tmp_path):
    train(tmp_path, epochs=6, scores=(0.1, 0.9, 0.5, 0.4, 0.3, 0.2))
    assert sorted(path.name for path in (tmp_path / "results" / ".epochs").iterdir()) == ["0002", "0005", "0006"]


def test_it_works_in_a_stock_runner_that_asks_for_it(tmp_path):
    items = [{"features": item["image"], "targets": item["target"], "name": item["sample_id"]} for item in data()]
    keys = {"target_key": "targets", "output_key": "scores"}
    callbacks = [
        ConfusionMatrix(num_classes=3, **keys),
        dl.AccuracyCallback(input_key="scores", target_key="targets", num_classes=3),
        Results("valid/accuracy01", minimize=False, folder=tmp_path / "results"),
    ]
    runner = dl.SupervisedRunner(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
    fit(runner, Given(None), items, callbacks, batch=4, epochs=2, lr=0.0, tensorboard=tmp_path / "logs")
    assert (tmp_path / "results" / "last" / "valid" / "confusion_matrix.png").exists()
    assert (tmp_path / "results" / "best" / "valid" / "confusion_matrix.png").exists()
    assert (tmp_path / "results" / "curves.png").exists()
    with pytest.raises(UsageError, match="needs a folder"):
        fit(runner, Given(None), items, [Results()], batch=4, tensorboard=tmp_path / "other")


def rank_run(folder):
    train(folder, lr=0.0)
    return None


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_write_the_same_table_as_one(processes, rank_processes, tmp_path):
    train(tmp_path / "one", lr=0.0)
    rank_processes.run(processes, rank_run, tmp_path / "many")
    one, many = tree(tmp_path / "one" / "results"), tree(tmp_path / "many" / "results")
    assert one.keys() == many.keys()
    assert table(one) == pytest.approx(table(many), abs=1e-5)


def table(files):
    rows = list(csv.reader(files["worst.csv"].decode().splitlines()))[1:]
    return {(*row[:5], *row[6:]): float(row[5]) for row in rows}


def test_wrong_use_is_refused(tmp_path):
    with pytest.raises(UsageError, match="metric must read LOADER/METRIC"):
        Results("loss")
    with pytest.raises(UsageError, match="give it one Results"):
        train(tmp_path / "two", Results())
    with pytest.raises(UsageError, match="nowhere"):
        train(tmp_path / "loader", results=Results("nowhere/loss"))
    with pytest.raises(UsageError, match="nothing"):
        train(tmp_path / "metric", results=Results("valid/nothing"))
