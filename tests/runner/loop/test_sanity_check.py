"""The validation that is tried out before the first epoch: it finds what is wrong, and leaves no trace."""

import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import torch
import torchmetrics
from catalyst import dl
from kit import assert_equal, read_events
from torch import nn
from torch.utils.data import DataLoader, Dataset

from assay.callbacks import (
    BestWorstBatches,
    Embeddings,
    Metrics,
    PredictionTable,
    UsageError,
    classification_diagnostics,
)
from assay.runner import Augmented, DictRunner, Experiment, Monitor, load_checkpoint, train
from assay.runner.loop import callback_copies
from assay.runner.loop.sanity_check import SanityCheck, SilentLogger

CLASSES, TRAIN, VALID = 3, 26, 21
LONG = pytest.mark.long("trains two runs with all diagnostics; a quicker test compares two of one process")


class Net(nn.Module):
    """Draws for itself, normalizes over the batch, and counts its calls in a buffer, also when it is evaluated."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(4 * 36, CLASSES)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, image):
        self.calls += 1
        noise = torch.rand(()) + random.random() + np.random.rand()
        return {"logits": self.head(self.features(image).flatten(1)) + 0.01 * noise}


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
    check: str = "off"
    batch_size: int = 4
    device: str = "cpu"
    scheduler: str = "one-cycle"
    ema_decay: float | None = 0.9
    valid_first: bool = False
    brought: list[Any] = field(default_factory=list)

    def get_loaders(self):
        noise = A.Compose([A.GaussNoise(p=0.5), A.ToFloat(), A.ToTensorV2()])
        sets = {"train": make_items(TRAIN, 0), "valid": make_items(VALID, 1)}
        keys = reversed(sets) if self.valid_first else sets
        return {key: self.make_loader(Augmented(sets[key], noise, seed=self.seed), shuffle=True) for key in keys}

    def get_model(self):
        return Net()

    def get_callbacks(self):
        names = [str(number) for number in range(CLASSES)]
        diagnostics = classification_diagnostics(self.diagnostics, class_names=names)
        return [
            *diagnostics,
            Embeddings(),
            PredictionTable(num_classes=CLASSES),
            BestWorstBatches(prefix="more"),
            *self.brought,
        ]


def run_toy(folder, fields):
    try:
        train(Toy(**fields), name="toy", run_dir=folder)
    except RuntimeError as error:
        return str(error)
    return None


def points_of(folder):
    """Return the number of points of each tag, and every scalar and picture."""
    found = Counter()
    for part in sorted({path.parent for path in Path(folder).rglob("events.out.*")}):
        events = read_events(part)
        tags = events.Tags()
        found.update((part.name, tag, it.step, it.value) for tag in tags["scalars"] for it in events.Scalars(tag))
        pictures = [(tag, it) for tag in tags["images"] for it in events.Images(tag)]
        found.update((part.name, tag, it.step, it.encoded_image_string) for tag, it in pictures)
        found.update((part.name, tag, it.step) for tag in tags["tensors"] for it in events.Tensors(tag))
    varying = ("time", "memory", "overhead")
    return Counter({point: n for point, n in found.items() if not any(word in point[1] for word in varying)})


def assert_same_runs(first, second):
    assert Path(first, "metrics.csv").read_text() == Path(second, "metrics.csv").read_text()
    states = [load_checkpoint(folder) for folder in (first, second)]
    for state in states:
        del state["loggers"], state["config"]  # names of event files hold the time; the field itself differs
    assert_equal(*states)
    points = [points_of(folder) for folder in (first, second)]
    assert points[0] == points[1]
    assert sum(points[0].values()) > 50
    names = [{path.relative_to(folder) for path in Path(folder).rglob("*.png")} for folder in (first, second)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("ranks", "fields"),
    [
        (1, {}),
        pytest.param(1, {"valid_first": True, "workers": 1}, marks=LONG),
        pytest.param(3, {}, marks=LONG),
    ],
)
def test_a_run_is_the_same_to_the_bit_with_and_without_it(tmp_path, processes, ranks, fields):
    for batches in (0, 2):
        processes.run(ranks, run_toy, tmp_path / str(batches), {"sanity_batches": batches, **fields})
    assert_same_runs(tmp_path / "0", tmp_path / "2")


@LONG
def test_a_run_that_goes_on_is_the_same_with_and_without_it(tmp_path):
    for batches in (0, 2):
        folder = tmp_path / str(batches)
        train(Toy(sanity_batches=batches, epochs=1, scheduler="none"), name="toy", run_dir=folder)
        train(Toy(sanity_batches=batches, epochs=2, scheduler="none"), name="toy", resume=folder)
    assert_same_runs(tmp_path / "0", tmp_path / "2")


class Notes(dl.Callback):
    """Keeps the events that it sees, and among them where it is asked to fail."""

    def __init__(self, fails_at=None, seen=None):
        super().__init__(order=200)
        self.fails_at, self.seen = fails_at, []
        self.seen_by_all = seen if seen is not None else NotCopied()

    def note(self, runner, event):
        key = runner.loader_key if "epoch" not in event and "experiment" not in event else None
        self.seen.append((event, key))
        self.seen_by_all.append((runner.is_sanity_check, event, key, runner.epoch_step))
        if event == self.fails_at:
            raise RuntimeError(f"failed at {event} of {key}")

    def on_experiment_start(self, runner):
        self.note(runner, "on_experiment_start")

    def on_epoch_start(self, runner):
        self.note(runner, "on_epoch_start")

    def on_loader_start(self, runner):
        self.note(runner, "on_loader_start")

    def on_batch_start(self, runner):
        self.note(runner, "on_batch_start")

    def on_batch_end(self, runner):
        self.note(runner, "on_batch_end")

    def on_loader_end(self, runner):
        self.note(runner, "on_loader_end")
        if runner.is_valid_loader:
            runner.loader_metrics["noted"] = 1.0

    def on_epoch_end(self, runner):
        self.note(runner, "on_epoch_end")

    def on_experiment_end(self, runner):
        self.note(runner, "on_experiment_end")


class NotCopied(list):
    """What is outside of a callback: a copy of it is itself."""

    def __deepcopy__(self, memo):
        return self


def fit(callbacks, *, model=None, loaders=None, batches=2, monitors=(), epochs=1, **options):
    model = model or Linear()
    runner = DictRunner()
    runner.train(
        model=model,
        criterion=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        loaders=loaders or {"train": make_loader(), "valid": make_loader(), "valid_2": make_loader()},
        callbacks=[SanityCheck(batches, monitors), *callbacks],
        num_epochs=epochs,
        **options,
    )
    return runner


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, CLASSES)

    def forward(self, image):
        return {"logits": self.layer(image)}


def make_loader(count=14):
    noise = torch.Generator().manual_seed(0)
    items = [{"image": torch.randn(4, generator=noise), "target": i % 3, "sample_id": i} for i in range(count)]
    return DataLoader(items, batch_size=4)


def test_copies_of_the_callbacks_see_the_events_of_validation_and_they_themselves_see_none():
    notes = Notes()
    fit([notes])
    tried = [one[1:3] for one in notes.seen_by_all if one[0]]
    batch = ["on_batch_start", "on_batch_end"]
    assert tried == [
        ("on_experiment_start", None),
        ("on_epoch_start", None),
        *[
            (event, key)
            for key in ("valid", "valid_2")
            for event in ["on_loader_start", *batch, *batch, "on_loader_end"]
        ],
    ]
    assert {one[3] for one in notes.seen_by_all if one[0] and one[1] != "on_experiment_start"} == {1}
    assert [one[:2] for one in notes.seen[:2]] == [("on_experiment_start", None), ("on_epoch_start", None)]
    assert notes.seen.count(("on_experiment_start", None)) == 1
    assert notes.seen.count(("on_loader_start", "valid")) == 1
    assert notes.seen.count(("on_batch_end", "valid")) == 4
    assert notes.seen[-1] == ("on_experiment_end", None)


@pytest.mark.parametrize("batches", [1, 3, 4, 100])
def test_it_runs_as_many_batches_as_asked_for_and_as_there_are(batches):
    notes = Notes()
    fit([notes], batches=batches)
    assert sum(one[0] and one[1:3] == ("on_batch_end", "valid") for one in notes.seen_by_all) == min(batches, 4)


@pytest.mark.parametrize(
    ("batches", "loaders"),
    [(0, None), (2, {"train": make_loader()}), (2, {"valid": make_loader()})],
)
def test_it_is_left_out_where_it_is_not_asked_for_or_there_is_nothing_to_try_out_or_to_save(batches, loaders):
    notes = Notes()
    runner = fit([notes], batches=batches, loaders=loaders)
    assert not any(one[0] for one in notes.seen_by_all)
    assert not runner.is_sanity_check


@pytest.mark.parametrize("event", ["on_loader_start", "on_batch_end", "on_loader_end"])
def test_an_error_in_validation_comes_before_the_first_step(event):
    notes, model = FailsInValidation(event), Linear()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match=f"failed at {event} of valid") as error:
        fit([notes], model=model)
    assert error.value.__notes__ == ["in the validation before the first epoch, which --sanity-batches 0 leaves out"]
    assert_equal(model.state_dict(), before)
    assert notes.seen == []
    assert model.training
    assert not model._forward_hooks


class FailsInValidation(Notes):
    def note(self, runner, event):
        fails, self.fails_at = self.fails_at, None
        super().note(runner, event)
        self.fails_at = fails
        if event == fails and runner.loader_key == "valid":
            raise RuntimeError(f"failed at {event} of {runner.loader_key}")


def test_hooks_and_attributes_of_the_copies_are_gone_when_the_run_begins():
    class Hooks(dl.Callback):
        def on_experiment_start(self, runner):
            runner.model.register_forward_hook(lambda *_: calls.append(runner.is_sanity_check))
            runner.register_gradient_hook(lambda: None)
            runner.register_round_hook(lambda: rounds.append(runner.is_sanity_check))
            runner.mine = len(rounds)

    calls, rounds = [], []
    runner = fit([Hooks(order=0)], batches=1)
    assert calls == [True] * 2 + [False] * 12
    assert rounds == [True] * 2 + [False] * 12
    assert len(runner.optimizer_step.hooks) == 1
    assert runner.mine == 2


def test_a_model_of_the_callbacks_own_is_shared_and_its_metrics_are_not():
    class Teacher(dl.Callback):
        def __init__(self):
            super().__init__(order=0)
            self.teacher, self.metric = nn.Linear(4, 2), torchmetrics.MeanMetric()

        def on_batch_end(self, runner):
            self.metric.update(1.0)
            seen.append((runner.is_sanity_check, id(self.teacher), id(self.metric), float(self.metric.weight)))

    seen, teacher = [], Teacher()
    fit([teacher], batches=1)
    assert {one[1] for one in seen} == {id(teacher.teacher)}
    assert {one[2] for one in seen if not one[0]} == {id(teacher.metric)}
    assert id(teacher.metric) not in {one[2] for one in seen if one[0]}
    assert [one[3] for one in seen if not one[0]] == [float(number) for number in range(1, 13)]


def test_a_callback_that_cannot_be_copied_is_left_out_with_a_warning(caplog):
    class Open(dl.Callback):
        def __init__(self):
            super().__init__(order=0)
            self.generator = (number for number in range(3))

        def on_loader_end(self, runner):
            assert not runner.is_sanity_check
            runner.loader_metrics["late"] = 1.0

    fit([Open()], monitors=[Monitor("valid", "late", minimize=True)])
    assert [record.message for record in caplog.records] == [
        "Open is left out of the validation that is tried out before the first epoch, as no copy of it can be made "
        "(cannot pickle 'generator' object): an error in it would show at the end of the first epoch only"
    ]


class Holds(dl.Callback):
    """Holds whatever it is given, and notes in the validation that is tried out what it has."""

    def __init__(self, part, seen):
        super().__init__(order=0)
        self.part, self.seen = part, seen

    def on_loader_start(self, runner):
        if runner.is_sanity_check:
            self.seen.append(self.part)


class Images(Dataset):
    def __init__(self):
        self.images = torch.zeros(3, 8)

    def __len__(self):
        return 3


NESTED = {
    "itself": lambda part: part,
    "deep": lambda part: {"deep": [(part,)]},
    "partial": lambda part: partial(id, part),
}


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize("make", [lambda: nn.BatchNorm1d(4), Images], ids=["model", "data set"])
def test_a_model_and_a_data_set_are_shared_at_any_depth(make, nested):
    part, seen = make(), NotCopied()
    fit([Holds(nested(part), seen)], batches=1)
    assert seen
    assert part in callback_copies.parts_to_share(Holds(seen[0], None))
    assert callback_copies.parts_to_share(Holds(nested(part), None)) == [part]


def test_what_the_models_of_callbacks_gather_is_taken_back():
    class Teacher(Holds):
        def on_batch_end(self, runner):
            if runner.is_sanity_check:
                self.part[0].train()(runner.batch["image"])

    norm = nn.BatchNorm1d(4).eval()
    fit([Teacher([norm], NotCopied())], batches=1)
    assert int(norm.num_batches_tracked) == 0
    assert not norm.training


def test_a_collection_of_metrics_counts_for_itself():
    class Counts(Holds):
        def on_batch_end(self, runner):
            if runner.is_sanity_check:
                self.part.update(1.0)

    metrics = torchmetrics.MetricCollection([torchmetrics.MeanMetric(), torchmetrics.SumMetric()])
    fit([Counts(metrics, NotCopied())], batches=1)
    assert float(metrics["MeanMetric"].weight) == float(metrics["SumMetric"].sum_value) == 0.0


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (threading.Lock, "cannot pickle '_thread.lock' object"),
        (Path(__file__).open, "cannot pickle '_io.TextIOWrapper' object"),
        (lambda: [torch.empty(2**26), torch.empty(1)], "it holds more than 256 MB, or a million values"),
        (lambda: {"ids": list(range(1_000_001))}, "it holds more than 256 MB, or a million values"),
    ],
    ids=["lock", "file", "tensor", "list"],
)
def test_what_has_no_copy_or_a_large_one_is_left_out_with_one_line(make, reason, caplog):
    seen, part = NotCopied(), make()
    fit([Holds(part, seen)], batches=1)
    assert seen == []
    (record,) = caplog.records
    assert record.message.startswith("Holds is left out of the validation")
    assert f"({reason})" in record.message
    if hasattr(part, "close"):
        part.close()


@pytest.mark.parametrize(
    ("monitor", "message"),
    [
        ("valid/acuracy", "monitor 'valid/acuracy': loader 'valid' has no such metric; did you mean 'valid/accuracy'? "
         "It has 'accuracy', 'loss', 'noted'."),
        ("valid/iou", "monitor 'valid/iou': loader 'valid' has no such metric; it has 'accuracy', 'loss', 'noted'."),
        ("valid_2/los", "monitor 'valid_2/los': loader 'valid_2' has no such metric; did you mean 'valid_2/loss'? "
         "It has 'accuracy', 'loss', 'noted'."),
    ],
)  # fmt: skip
def test_a_monitor_of_no_metric_is_refused_before_the_first_epoch(monitor, message):
    notes, loader = Notes(), monitor.split("/")[0]
    with pytest.raises(UsageError) as error:
        fit([Metrics(num_classes=3), notes], monitors=[Monitor(loader, monitor.split("/")[1], minimize=True)])
    assert str(error.value) == (f"{message} So it is after --sanity-batches 2; with 0 the first epoch decides.")
    assert notes.seen == []


@pytest.mark.parametrize("monitor", ["valid/accuracy", "valid/noted", "valid_2/loss", "train/what_training_alone_has"])
def test_a_monitor_of_a_metric_that_there_is_or_may_be_is_taken(monitor):
    loader, metric = monitor.split("/")
    fit([Metrics(num_classes=3), Notes()], monitors=[Monitor(loader, metric, minimize=True)])


TRAINING = (
    "monitor 'train/acuracy': neither validation nor the loss has such a metric; did you mean 'train/accuracy'? They "
    "have 'accuracy', 'loss'."
)


def test_a_typo_in_a_monitor_of_training_is_refused_before_the_first_epoch():
    model = Linear()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError) as error:
        fit([Metrics(num_classes=3)], model=model, monitors=[Monitor("train", "acuracy", minimize=True)])
    assert str(error.value) == f"{TRAINING} So it is after --sanity-batches 2; with 0 the first epoch decides."
    assert_equal(model.state_dict(), before)


def test_where_callbacks_of_the_user_may_have_it_in_training_alone_it_is_a_warning(caplog):
    class InTraining(dl.Callback):
        def on_loader_end(self, runner):
            if runner.is_train_loader:
                runner.loader_metrics["acuracy"] = 1.0

    callbacks = [Metrics(num_classes=3), InTraining(order=0)]
    fit(callbacks, monitors=[Monitor("train", "acuracy", minimize=True)])
    assert [record.message for record in caplog.records] == [
        f"{TRAINING} Unless training alone has it, the run will end after its first epoch."
    ]


@pytest.mark.parametrize("metric", ["loss", "accuracy", "something_else"])
def test_a_monitor_of_training_that_may_be_there_is_taken_without_a_word(metric, caplog):
    fit([Metrics(num_classes=3)], monitors=[Monitor("train", metric, minimize=True)])
    assert caplog.records == []


def test_a_negative_number_is_refused():
    with pytest.raises(UsageError, match=r"^sanity_batches must be at least 0, got -1"):
        SanityCheck(-1)
    with pytest.raises(UsageError, match=r"^sanity_batches must be at least 0, got -1"):
        Toy(sanity_batches=-1)


def test_users_callbacks_find_their_loggers_under_their_names_and_nothing_arrives(tmp_path):
    class Writes(dl.Callback):
        def on_loader_end(self, runner):
            logger = runner.loggers["tensorboard"]
            logger.loggers[runner.loader_key].add_scalar("mine", 1.0, runner.epoch_step)
            runner.loggers["csv"].anything["of"](3).it.writes()
            runner.log_metrics({"mine": 1.0}, scope="loader")

    class Fails(dl.Callback):
        def on_epoch_start(self, runner):
            assert runner.is_sanity_check, "not reached"

    with pytest.raises(AssertionError, match="not reached"):
        fit([Writes(order=0), Fails(order=0)], logdir=str(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.suffix == ".csv" and path.stat().st_size > 30] == []
    assert not hasattr(SilentLogger(), "__len__")


def test_a_callback_may_read_the_folder_of_a_logger(tmp_path):
    folders = []

    class Reads(dl.Callback):
        def on_epoch_start(self, runner):
            logger = runner.loggers["tensorboard"]
            folders.append((runner.is_sanity_check, logger.folder / "mine"))
            if runner.is_sanity_check:
                assert logger.anything(3).further["x"] is logger

    fit([Reads(order=0)], logdir=str(tmp_path))
    assert folders == [(True, tmp_path / "mine"), (False, tmp_path / "mine")]


def test_all_ranks_try_out_their_share(tmp_path, processes):
    shares = processes.run(3, shares_of_ranks, 2)
    assert [len(share) for share in shares] == [2, 2, 2]
    assert sorted(number for share in shares for batch in share for number in batch) == list(range(24))


def shares_of_ranks(batches):
    class Share(dl.Callback):
        def on_batch_end(self, runner):
            if runner.is_sanity_check:
                share.append(runner.batch["sample_id"].tolist())

    share: list[Any] = []
    loaders = {"train": make_loader(30), "valid": make_loader(30)}
    fit([Share(order=0)], batches=batches, loaders=loaders)
    return share
