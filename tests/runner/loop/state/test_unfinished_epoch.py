"""A run that ends within an epoch and is resumed from there equals one that was never interrupted."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import albumentations as A
import numpy as np
import pytest
import torch
from catalyst import dl
from kit import Kill, Killed, assert_equal, fit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from assay.callbacks import (
    AugmentationPreview,
    BestWorstBatches,
    Embeddings,
    GradientStats,
    UsageError,
    classification_diagnostics,
)
from assay.runner import Augmented, BalancedSampler, DictRunner, Experiment, load_checkpoint, train
from assay.runner.saving.checkpoint_files import read_index
from assay.runner.saving.checkpoints import Checkpoints
from assay.runner.saving.resume import newest_checkpoint

CLASSES, TRAIN, VALID, BATCH = 3, 45, 21, 4  # 12 batches on one process, 6 rounds of two


class Net(nn.Module):
    """Draws for itself, normalizes over the batch, and has a layer that Grad-CAM finds."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(4 * 36, CLASSES)

    def forward(self, image):
        return {"logits": self.head(self.features(image).flatten(1))}


def make_items(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)
    return [
        {"image": image, "target": int(target), "sample_id": f"{seed}-{index}"}
        for index, (image, target) in enumerate(zip(images, rng.integers(0, CLASSES, count), strict=True))
    ]


@dataclass(kw_only=True)
class Toy(Experiment):
    epochs: int = 2
    check: str = "quick"
    batch_size: int = BATCH
    device: str = "cpu"
    lr: float = 0.01
    scheduler: str = "one-cycle"
    accumulate_steps: int = 2
    clip_grad_norm: float | None = 0.5
    ema_decay: float | None = 0.9
    log_every_steps: int = 1
    valid_first: bool = False
    balanced: bool = False
    killed_at: list[int] = field(default_factory=list)

    def get_loaders(self):
        noise = [A.GaussNoise(p=0.5), A.ToFloat(), A.ToTensorV2()]
        train_set = Augmented(make_items(TRAIN, 0), A.Compose(noise), seed=self.seed)
        valid_set = Augmented(make_items(VALID, 1), A.Compose(noise[1:]), seed=self.seed)
        targets = [item["target"] for item in train_set.items]
        order = {"sampler": BalancedSampler(targets)} if self.balanced else {"shuffle": True}
        loaders = {"train": self.make_loader(train_set, **order), "valid": self.make_loader(valid_set)}
        return dict(reversed(loaders.items())) if self.valid_first else loaders

    def get_model(self):
        return Net()

    def get_callbacks(self):
        names = [str(number) for number in range(CLASSES)]
        diagnostics = classification_diagnostics(self.diagnostics, class_names=names)
        diagnostics = [it for it in diagnostics if not isinstance(it, GradientStats | Embeddings | AugmentationPreview)]
        return [
            *diagnostics,
            GradientStats(every_n_steps=2, per_parameter=True, update_ratio=True),
            BestWorstBatches(["loss", "accuracy"], [True, False], prefix="more"),
            Embeddings(max_samples=10, every_n_epochs=1, loader="train"),
            AugmentationPreview(30),
            *([Kill(*self.killed_at)] if self.killed_at else []),
        ]


def run(folder, resume=False, killed_at=(), **fields):
    """Train; return whether it came to its end."""
    where = {"resume": folder} if resume else {"run_dir": folder}
    try:
        train(Toy(killed_at=list(killed_at), **fields), name="toy", **where)
    except Killed:
        return False
    return True


def points_of(folder):
    """Return all points of a run but times and its fields: folder, tag, step and value."""
    found = Counter()
    for part in sorted({path.parent for path in Path(folder).glob("*/events*")}):
        events = EventAccumulator(str(part), size_guidance={"images": 0, "scalars": 0, "tensors": 0, "histograms": 0})
        tags = events.Reload().Tags()
        found.update((part.name, tag, it.step, repr(it.value)) for tag in tags["scalars"] for it in events.Scalars(tag))
        pictures = ((tag, it) for tag in tags["images"] for it in events.Images(tag))
        found.update((part.name, tag, it.step, it.encoded_image_string) for tag, it in pictures)
        tensors = ((tag, it) for tag in tags["tensors"] for it in events.Tensors(tag))
        found.update((part.name, tag, it.step, it.tensor_proto.SerializeToString()) for tag, it in tensors)
    others = ("9_time/", "9_memory/", "9_config", "_hparams_")  # the runs differ in whether they are killed
    return Counter({point: count for point, count in found.items() if not point[1].startswith(others)})


def assert_equal_runs(straight, parts):
    csvs = [Path(folder, "metrics.csv").read_text() for folder in (straight, parts)]
    assert csvs[0] == csvs[1]
    first, second = points_of(straight), points_of(parts)
    assert {point[:3] for point in first - second} == {point[:3] for point in second - first} == set()
    states = [load_checkpoint(folder) for folder in (straight, parts)]
    for kind in ("model", "ema", "optimizer", "scheduler", "rng", "history", "batch_step", "sample_step"):
        assert_equal(states[0][kind], states[1][kind])


@pytest.fixture(scope="module")
def straight(tmp_path_factory, processes):
    """Return a function that gives the folder of an uninterrupted run."""
    made = {}

    def get(ranks=1, **fields):
        key = (ranks, *sorted(fields.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("straight") / "run"
            processes.run(ranks, run_with, made[key], {}, fields)
        return made[key]

    return get


def run_with(folder, options, fields):
    return run(folder, **options, **fields)


LONG = pytest.mark.long("trains a run to its end again, killed in another place")


@pytest.mark.parametrize(
    ("killed_at", "fields"),
    [
        pytest.param((1, 3), {}, marks=LONG),
        pytest.param((1, 11), {"workers": 2}, marks=LONG),
        ((2, 8), {"workers": 2}),  # whose workers the straight run has had since epoch 1
        pytest.param((2, 8), {"valid_first": True}, marks=LONG),
        pytest.param((2, 8), {"balanced": True}, marks=LONG),
        pytest.param((2, 14), {}, marks=LONG),  # in validation
    ],
)
def test_a_resumed_run_equals_the_straight_one_in_every_bit_and_point(tmp_path, straight, killed_at, fields):
    folder = tmp_path / "run"
    assert not run(folder, killed_at=killed_at, save_every_steps=1, **fields)
    assert run(folder, resume=True, **fields)
    assert_equal_runs(straight(**fields), folder)


@pytest.mark.long("trains a run to its end again")
def test_rows_that_came_behind_a_checkpoint_within_the_first_epoch_are_gone(tmp_path, straight):
    folder = tmp_path / "run"
    assert not run(folder, killed_at=(1, 14), save_every_steps=5)  # in validation, saved in training
    assert "\n1,train," in (folder / "metrics.csv").read_text()
    assert run(folder, resume=True)
    assert_equal_runs(straight(), folder)


def test_two_ranks_go_on_within_an_epoch(tmp_path, straight, processes):
    folder = tmp_path / "run"
    killed = {"killed_at": (2, 5), "save_every_steps": 1}
    assert processes.run(2, run_with, folder, killed, {}) == [False, False]
    assert processes.run(2, run_with, folder, {"resume": True}, {}) == [True, True]
    assert_equal_runs(straight(ranks=2), folder)


def test_another_number_of_processes_goes_on_from_the_last_epoch_with_a_warning(tmp_path, processes, caplog):
    folder = tmp_path / "run"
    processes.run(2, run_with, folder, {"killed_at": (2, 5), "save_every_steps": 1}, {})
    assert newest_checkpoint(folder) == folder / "checkpoints" / "epoch-0001.pt"
    path = folder / "checkpoints" / "epoch-0002-batch-0004.pt"
    reason = f"checkpoint {path} was saved within an epoch by 2 processes, and 1 cannot continue it."
    assert f"{reason} Going on from {folder}/checkpoints/epoch-0001.pt, of epoch 1." in caplog.text
    with pytest.raises(UsageError, match="saved within an epoch by 2 processes, and 1 cannot"):
        newest_checkpoint(path)


def test_what_the_folder_holds_while_an_epoch_goes_on_and_when_it_is_over(tmp_path):
    folder = tmp_path / "run"
    run(folder, killed_at=(2, 8), save_every_steps=2)
    checkpoints = folder / "checkpoints"
    within = "epoch-0002-batch-0004.pt"
    assert {path.name for path in checkpoints.iterdir()} == {
        "epoch-0001.pt", within, "last.pt", "best.pt", "index.json",
    }  # fmt: skip
    assert checkpoints.joinpath("last.pt").samefile(checkpoints / within)
    entries = {entry["file"]: entry for entry in json.loads((checkpoints / "index.json").read_text())["checkpoints"]}
    assert (entries["last.pt"]["epoch"], entries["last.pt"]["batch"]) == (2, 4)
    assert "batch" not in entries["best.pt"]
    assert load_checkpoint(folder)["epoch"] == 1  # epochs that are over
    run(folder, resume=True)
    assert {entry["file"] for entry in read_index(checkpoints)} == {
        "epoch-0001.pt", "epoch-0002.pt", "last.pt", "best.pt",
    }  # fmt: skip


def test_a_damaged_checkpoint_within_an_epoch_is_passed_over(tmp_path, caplog):
    folder = tmp_path / "run"
    run(folder, killed_at=(2, 8), save_every_steps=2)
    path = folder / "checkpoints" / "epoch-0002-batch-0004.pt"
    path.write_bytes(path.read_bytes()[:-100])
    assert newest_checkpoint(folder).name == "epoch-0001.pt"
    assert f"{path} was changed or cut off" in caplog.text


def test_minutes_count_from_the_last_checkpoint(tmp_path):
    seconds = iter(range(0, 10**6, 25))
    model = Net()
    saved = []

    class Listen(dl.Callback):
        def on_batch_start(self, runner):
            saved.extend(path.name for path in (tmp_path / "checkpoints").glob("*-batch-*") if path.name not in saved)

    items = [{**item, "image": torch.rand(1, 8, 8)} for item in make_items(40, 0)]
    fit(
        DictRunner(),
        model,
        {"train": torch.utils.data.DataLoader(items, batch_size=4)},
        [
            Checkpoints(tmp_path / "checkpoints", every_minutes=1, clock=lambda: next(seconds)),
            Listen(dl.CallbackOrder.Internal),
        ],
    )
    assert saved == ["epoch-0001-batch-0003.pt", "epoch-0001-batch-0006.pt", "epoch-0001-batch-0009.pt"]


def test_callbacks_that_keep_nothing_of_an_unfinished_epoch_are_named_once(tmp_path, caplog):
    assert not run(tmp_path / "run", killed_at=(1, 11), save_every_steps=1)
    (said,) = [record.message for record in caplog.records if "a checkpoint within an epoch" in record.message]
    assert said == (
        "a checkpoint within an epoch holds nothing of what 'Kill' saw of it: when the run goes on there, they report "
        "of that epoch what came after"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "every_n_steps must be an integer of at least 1, got 0"),
        ({"every_minutes": 0}, "every_minutes must be greater than 0, got 0"),
    ],
)
def test_wrong_intervals_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        Checkpoints(tmp_path, **options)
