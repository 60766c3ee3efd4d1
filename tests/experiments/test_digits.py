"""The digits experiment as a user runs it: with its defaults, once, for all tests of this file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, EventAccumulator
from torch import nn

from assay.callbacks.samples import best_worst_batches
from assay.experiments.digits import Digits, load_items
from assay.runner import load_checkpoint
from assay.runner.commands.main import main
from assay.runner.saving.loggers import read_metrics

EPOCHS, LOADERS = 15, ("train", "valid")
KINDS = ("best", "worst")
long = pytest.mark.long("trains digits to the end, with all pictures; test_use_of_runs is the quick one")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Train with the defaults; return the run folder, what was printed, and what each picture was drawn from."""
    drawn = {}
    draw_batch = best_worst_batches.draw_samples

    def draw_and_note(samples, title, **options):
        text = " ".join(title)
        kind, loader, metric = re.search(r"(best|worst) (\w+) batch by (\w+)", text).groups()
        epoch, position = map(int, re.search(r"epoch (\d+), batch (\d+)", text).groups())
        drawn[epoch, loader, kind, metric] = (position, list(samples["sample_id"]))
        return draw_batch(samples, title, **options)

    folder = tmp_path_factory.mktemp("digits")
    printed = folder / "printed.txt"
    with pytest.MonkeyPatch.context() as patch, printed.open("w") as output:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "200")  # pytest's workers have 80, which is too few for all metrics
        patch.setattr("sys.stdout", output)
        patch.setattr(best_worst_batches, "draw_samples", draw_and_note)
        code = main(["train", "digits", "--device", "cpu"])
    assert code == 0
    (run,) = (folder / "runs" / "digits").iterdir()
    return run, printed.read_text(), drawn


@pytest.fixture(scope="module")
def events(digits):
    """Return what TensorBoard reads of each loader, with every picture and point."""
    found = {}
    for loader in LOADERS:
        found[loader] = EventAccumulator(str(digits[0] / loader), {IMAGES: 0, SCALARS: 0})
        found[loader].Reload()
    return found


@long
def test_it_learns_to_read_digits(digits):
    accuracy = read_metrics(digits[0] / "metrics.csv")[EPOCHS, "valid", "accuracy"]
    assert accuracy >= 0.97


@long
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["batches", "samples"])
def test_every_epoch_has_a_picture_of_the_best_and_the_worst(events, loader, kind, what):
    tags = {("batches", kind): f"9_batches/{kind}/loss", ("samples", "best"): "6_samples/best/loss"}
    tags["samples", "worst"] = "6_worst_samples/loss"
    pictures = events[loader].Images(tags[what, kind])
    assert [picture.step for picture in pictures] == list(range(1, EPOCHS + 1))
    assert min(min(picture.width, picture.height) for picture in pictures) > 50


@long
@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("metric", ["loss", "accuracy", "f1"])
def test_every_epoch_has_the_metrics_of_the_csv_file_in_tensorboard(digits, events, loader, metric):
    table = read_metrics(digits[0] / "metrics.csv")
    points = events[loader].Scalars("1_overview/loss" if metric == "loss" else f"1_overview/metrics/{metric}")
    assert [point.step for point in points] == list(range(1, EPOCHS + 1))
    assert [point.value for point in points] == pytest.approx([table[e, loader, metric] for e in range(1, EPOCHS + 1)])


@long
def test_it_prints_the_run_folder_the_best_epoch_and_how_to_look_at_it(digits):
    folder, printed, _ = digits
    lines = printed.splitlines()
    run = Path("runs/digits") / folder.name
    table = read_metrics(folder / "metrics.csv")
    values = {epoch: table[epoch, "valid", "accuracy"] for epoch in range(1, EPOCHS + 1)}
    best = max(values, key=lambda epoch: (values[epoch], -epoch))
    assert lines[0] == f"run folder: {run}"
    epochs = [re.match(rf"epoch +(\d+)/{EPOCHS} ", line) for line in lines]
    assert [int(epoch.group(1)) for epoch in epochs if epoch] == list(range(1, EPOCHS + 1))
    reports = [line for line in lines if " report, " in line]
    assert reports == [f"{loader} report, epoch {EPOCHS}" for loader in LOADERS]
    place = lines.index(f"run folder: {run}", 1)
    assert lines[place - 1].startswith(f"best epoch: {best} by valid/accuracy (")
    for metric in ("train/loss", "valid/loss", "valid/accuracy"):
        assert f"{metric} {table[best, *metric.split('/')]:.4f}" in lines[place - 1]
    how = " ".join(" ".join(lines[place + 1 :]).split())
    command = r"\S*tensorboard --logdir runs --samples_per_plugin images=200"
    assert re.fullmatch(
        rf"look at it: {command},? then open http://localhost:6006 or open {run}/report.html( over ssh.*)?", how
    ), how


@long
def test_the_best_checkpoint_is_of_the_best_epoch(digits):
    folder = digits[0]
    index = json.loads((folder / "checkpoints" / "index.json").read_text())["checkpoints"]
    best = next(entry for entry in index if entry["file"] == "best.pt")
    table = read_metrics(folder / "metrics.csv")
    assert best["metric"] == "valid/accuracy"
    assert best["value"] == max(table[epoch, "valid", "accuracy"] for epoch in range(1, EPOCHS + 1))
    assert load_checkpoint(folder, "best")["epoch"] == best["epoch"]


@long
def test_the_data_is_noted_as_real(digits):
    assert json.loads((digits[0] / "environment.json").read_text())["generated"] is False


@pytest.fixture(scope="module")
def reference(digits):
    """Go through the valid loader in a plain loop with the last weights: losses, hits and ids of each batch."""
    experiment = Digits(device="cpu")
    model = experiment.get_model()
    model.load_state_dict(load_checkpoint(digits[0], "last")["model"][""])
    model.eval()
    batches = []
    for batch in experiment.get_loaders()["valid"]:
        with torch.no_grad():
            logits = model(batch["image"])["logits"]
        losses = [float(nn.functional.cross_entropy(logits[i], batch["target"][i])) for i in range(len(logits))]
        hits = [bool(logits[i].argmax() == batch["target"][i]) for i in range(len(logits))]
        batches.append((losses, hits, list(batch["sample_id"])))
    return batches


@long
@pytest.mark.parametrize("kind", KINDS)
def test_the_batch_that_is_shown_is_the_one_that_a_plain_loop_finds(digits, reference, kind):
    badness = [np.mean(losses) for losses, _, _ in reference]
    chosen = int(np.argmin(badness) if kind == "best" else np.argmax(badness))  # the first of equals
    losses, _, ids = reference[chosen]
    order = sorted(range(len(ids)), key=lambda i: losses[i], reverse=kind == "worst")[:12]
    position, shown = digits[2][EPOCHS, "valid", kind, "loss"]
    assert position == chosen + 1
    assert shown == [ids[i] for i in order]


@long
def test_the_metrics_are_those_that_a_plain_loop_finds(digits, reference):
    table = read_metrics(digits[0] / "metrics.csv")
    losses = np.concatenate([losses for losses, _, _ in reference])
    hits = np.concatenate([hits for _, hits, _ in reference])
    assert table[EPOCHS, "valid", "loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert table[EPOCHS, "valid", "accuracy"] == pytest.approx(hits.mean(), rel=1e-6)


def test_the_parts_share_no_image_and_both_hold_every_class():
    loaders = Digits().get_loaders()
    parts = {key: list(loader.dataset.items) for key, loader in loaders.items()}
    ids = {key: {item["sample_id"] for item in items} for key, items in parts.items()}
    assert ids["train"].isdisjoint(ids["valid"])
    assert len(ids["train"] | ids["valid"]) == len(load_items()) == 1797
    for items in parts.values():
        assert {item["target"] for item in items} == set(range(10))


def test_an_image_is_the_grey_image_of_the_source_normalized():
    from sklearn.datasets import load_digits

    from assay.experiments.digits import MEAN, STD

    item = Digits().get_loaders()["valid"].dataset[1]
    source = load_digits().images[5] / 16
    assert item["image"].shape == (1, 8, 8)
    assert item["target"] == load_digits().target[5]
    np.testing.assert_allclose(item["image"][0].numpy() * STD + MEAN, source, atol=0.5 / 255 + 1e-6)
    pixels = np.stack([item["image"] for item in load_items()]) / 255
    assert (pixels.mean(), pixels.std()) == pytest.approx((MEAN, STD), abs=1e-3)
