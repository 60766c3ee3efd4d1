"""Nothing in a step waits for the device: what each step asks of it is counted, with diagnostics and without."""

import pytest
import torch
from catalyst import dl
from host_reads import CountsSteps
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import (
    AugmentationPreview,
    BestWorstBatches,
    Embeddings,
    Findings,
    GradientStats,
    HParams,
    NonFiniteGuard,
    OptimizerMonitor,
    OverheadBudget,
    PRCurves,
    TimeMonitor,
    classification_diagnostics,
    detection_diagnostics,
    segmentation_diagnostics,
)
from assay.callbacks.support.host_copy import HostCopy
from assay.runner import DictRunner, Engine, LossTerm, Progress, TensorBoardLogger

READ = "aten::_local_scalar_dense"
CLASSES = ["cat", "dog", "owl"]


class Counting(CountsSteps, DictRunner):
    pass


class CountingStock(CountsSteps, dl.SupervisedRunner):
    pass


class Classifier(nn.Module):
    def __init__(self, as_dict=True):
        super().__init__()
        self.as_dict = as_dict
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.head, self.side = nn.Linear(144, 3), nn.Linear(144, 1)

    def forward(self, image):
        features = self.body(image)
        return {"logits": self.head(features), "size": self.side(features)} if self.as_dict else self.head(features)


class Segmenter(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, classes, 1))

    def forward(self, image):
        return {"logits": self.layers(image)}


class Detector(nn.Module):
    """Two boxes an image, of any place."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2 * 5))

    def forward(self, image):
        parts = self.layers(image).sigmoid().reshape(-1, 2, 5)
        corners = torch.cat([parts[..., :2] * 4, 4 + parts[..., 2:4] * 4], dim=2)
        labels = torch.ones(2, dtype=torch.int64, device=image.device)
        rows = zip(corners, parts[..., 4], strict=True)
        return {"logits": [{"boxes": boxes, "scores": scores, "labels": labels} for boxes, scores in rows]}


def box_loss(found, true):
    return torch.stack(
        [
            ((one["boxes"] - other["boxes"]) ** 2).mean() - one["scores"].log().mean()
            for one, other in zip(found, true, strict=True)
        ]
    ).mean()


def binary_loss(output, target):
    return ((output[:, 0] - target) ** 2).mean()


def loaders(make_target, *, collate_fn=None, batch_size=4, **names):
    """Return 10 batches of 4 for training, and as many for validation."""
    noise = torch.Generator().manual_seed(0)
    items = [
        {
            names.get("image", "image"): torch.randn(3, 8, 8, generator=noise),
            names.get("target", "target"): make_target(i, noise),
            "sample_id": f"s{i}",
            "true_size": torch.rand(1, generator=noise),
        }
        for i in range(40)
    ]
    return {key: DataLoader(items, batch_size, collate_fn=collate_fn) for key in ("train", "valid")}


def classes(i, noise):
    return i % 3


def masks(i, noise):
    """Classes 0, 1 and 2 of which a binary task leaves out the last."""
    return torch.randint(0, 3, (8, 8), generator=noise)


def boxes(i, noise):
    low = torch.rand(2, 2, generator=noise) * 4
    return {"boxes": torch.cat([low, low + 3], dim=1), "labels": torch.ones(2, dtype=torch.int64)}


def stack_but_boxes(items):
    whole = {name: [item[name] for item in items] for name in items[0]}
    return {**whole, "image": torch.stack(whole["image"])}


def train(runner, model, callbacks, folder, batches, *, sgd=None, **options):
    """Train for two epochs, and return the count of every step; without a folder, nothing is logged."""
    torch.manual_seed(0)
    options.setdefault("engine", Engine("cpu"))
    if folder is not None:
        options["loggers"] = {"tensorboard": TensorBoardLogger(folder, log_every_steps=1)}
    runner.train(
        loaders=batches,
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, **(sgd or {"fused": True})),
        callbacks={f"{i:02d}": callback for i, callback in enumerate(callbacks)},
        num_epochs=2,
        hparams={"lr": 0.1},
        **options,
    )
    assert len(runner.steps) == 2 * sum(map(len, batches.values()))
    return runner.steps


def everything_else(folder, **keys):
    """Return the diagnostics that no list for a task holds, and those that it holds with other options."""
    return [
        GradientStats(every_n_steps=1, per_parameter=True, update_ratio=True, prefix="more"),
        NonFiniteGuard(folder=folder, **keys),
        # The toys validate on what they train on.
        Findings(stop=False, **{name: key for name, key in keys.items() if name in ("image_key", "target_key")}),
        HParams(),
        OverheadBudget(1.0),
        Progress(show_bar=True, refresh_s=0.0),
    ]


def count_steps(folder, callbacks=(), *, extra=None, fused=False, **sgd):
    """Train a classifier with two losses."""
    runner = Counting(
        losses=[
            LossTerm("logits", "target", criterion="class"),
            LossTerm("size", "true_size", criterion="size", weight=0.5),
        ],
        clip_grad_norm=1.0,
        accumulate_steps=2,
    )
    if extra is not None:
        probe = dl.Callback(order=dl.CallbackOrder.External)
        probe.on_batch_end = extra
        callbacks = [probe]
    return train(
        runner,
        Classifier(),
        callbacks,
        folder if callbacks and extra is None else None,
        loaders(classes),
        criterion={"class": nn.CrossEntropyLoss(), "size": nn.MSELoss()},
        sgd={"momentum": 0.9, "fused": fused, **sgd},
    )


def test_a_step_of_the_runner_itself_reads_nothing(tmp_path):
    assert set(map(frozenset, count_steps(tmp_path))) == {frozenset()}


def test_diagnostics_add_no_read_by_the_host_to_any_step(tmp_path, capsys):
    callbacks = [
        *classification_diagnostics(
            "full", metrics=["accuracy", "f1", "balanced_accuracy", "iou"], class_names=CLASSES
        ),
        *everything_else(tmp_path / "on"),
        BestWorstBatches(["loss", "accuracy"], [True, False], class_names=CLASSES, prefix="more"),
        PRCurves(class_names=CLASSES, prefix="more"),
        Embeddings(max_samples=16, class_names=CLASSES),
        AugmentationPreview(class_names=CLASSES, prefix="more"),
    ]
    on = count_steps(tmp_path / "on", callbacks, fused=True)
    assert on == count_steps(tmp_path / "off", fused=True)
    assert list(tmp_path.glob("on/*/events*"))  # the diagnostics did run
    assert "epoch 2/2" in capsys.readouterr().out


BINARY = pytest.mark.long("counts the reads of two runs, as it does of several classes")


@pytest.mark.parametrize("task", ["multiclass", pytest.param("binary", marks=BINARY)])
def test_diagnostics_of_masks_add_no_read_by_the_host_to_any_step(tmp_path, task):
    names = {"class_names": CLASSES} if task == "multiclass" else {"class_names": ["no", "yes"], "ignore_index": 2}

    def count(callbacks, folder):
        criterion = nn.CrossEntropyLoss() if task == "multiclass" else binary_loss
        model = Segmenter(3 if task == "multiclass" else 1)
        return train(Counting(), model, callbacks, folder, loaders(masks), criterion=criterion)

    callbacks = segmentation_diagnostics("full", task=task, gradients_every_n_steps=1, k_samples=4, **names)
    on = count([*callbacks, *everything_else(tmp_path)], tmp_path / "on")
    assert on == count([], None)
    assert list(tmp_path.glob("on/*/events*"))


def test_diagnostics_of_boxes_add_no_read_by_the_host_to_any_step(tmp_path):
    def count(callbacks, folder):
        batches = loaders(boxes, collate_fn=stack_but_boxes)
        return train(Counting(), Detector(), callbacks, folder, batches, criterion=box_loss)

    callbacks = detection_diagnostics("full", class_names=["none", "cat"], gradients_every_n_steps=1)
    on = count([*callbacks, *everything_else(tmp_path)], tmp_path / "on")
    assert on == count([], None)
    assert list(tmp_path.glob("on/*/events*"))


def test_diagnostics_add_no_read_by_the_host_to_a_step_of_a_stock_runner(tmp_path):
    def count(callbacks, loggers):
        runner = CountingStock(input_key="features", output_key="scores", target_key="targets", loss_key="loss")
        return train(
            runner,
            Classifier(as_dict=False),
            callbacks,
            None,
            loaders(classes, image="features", target="targets"),
            criterion=nn.CrossEntropyLoss(),
            loggers=loggers,
        )

    keys = {"image_key": "features", "target_key": "targets", "output_key": "scores"}
    callbacks = [
        *classification_diagnostics("full", class_names=CLASSES, gradients_every_n_steps=1, **keys),
        *everything_else(tmp_path, **keys)[:-1],
        PRCurves(class_names=CLASSES, target_key="targets", output_key="scores", prefix="more"),
        Embeddings(max_samples=16, class_names=CLASSES, **keys),
    ]
    on = count(callbacks, {"tensorboard": dl.TensorboardLogger(str(tmp_path / "on"))})
    off = count([], {"tensorboard": dl.TensorboardLogger(str(tmp_path / "off"))})
    assert on == off
    assert off[0][READ] > 0  # the runner's own
    assert list(tmp_path.glob("on/*/events*"))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("options", [{}, {"clip_grad_norm": 0.1, "accumulate_steps": 2}], ids=["plain", "clipped"])
def test_monitors_add_no_read_by_the_host_to_any_step(tmp_path, options, scaled):
    def count(callbacks, folder):
        engine = Engine("cpu")
        engine.scaler = torch.amp.GradScaler("cpu") if scaled else None
        return train(Counting(**options), Segmenter(3), callbacks, folder, loaders(masks), engine=engine,
                     criterion=nn.CrossEntropyLoss(), sgd={"fused": False})  # fmt: skip

    on = count([OptimizerMonitor(), TimeMonitor(), GradientStats(update_ratio=True)], tmp_path / "on")
    assert on == count([], None)
    assert list(tmp_path.glob("on/train/events*"))


def test_findings_add_no_read_to_the_step_after_the_last_one_that_they_watch():
    def count(callbacks):
        batches = loaders(masks, batch_size=1)
        loss = nn.CrossEntropyLoss()
        return train(Counting(), Segmenter(3), callbacks, None, batches, criterion=loss)

    findings = Findings(stop=False)
    assert count([findings]) == count([])
    assert len(findings.watch_.probe.steps.steps) == 30 < len(loaders(masks, batch_size=1)["train"])


def test_the_guard_adds_no_read_where_the_optimizer_is_fused(tmp_path):
    guard = NonFiniteGuard("skip", folder=tmp_path)
    assert count_steps(tmp_path, [guard], fused=True) == count_steps(tmp_path / "bare", fused=True)


def test_the_guard_reads_once_an_optimizer_step_where_it_is_not_fused(tmp_path):
    steps = count_steps(tmp_path, [NonFiniteGuard("skip", folder=tmp_path)])
    assert sum(step[READ] for step in steps) == 2 * 5  # of 10 batches, two a step
    assert set().union(*steps) == {READ}


def test_the_guard_reads_a_first_step_that_momentum_and_dampening_make_different(tmp_path):
    guard = NonFiniteGuard("skip", folder=tmp_path)
    steps = count_steps(tmp_path, [guard], fused=True, dampening=0.5)
    bare = count_steps(tmp_path / "bare", fused=True, dampening=0.5)
    extra = [step[READ] - other[READ] for step, other in zip(steps, bare, strict=True)]
    assert [index for index, reads in enumerate(extra) if reads] == [1]


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (READ, lambda runner: runner.batch_metrics["loss"].item()),
        (READ, lambda runner: float(runner.batch_metrics["loss"])),
        (READ, lambda runner: bool((runner.batch["logits"] > 0).any())),
        ("aten::equal", lambda runner: torch.equal(runner.batch["target"], runner.batch["target"])),
        ("aten::nonzero", lambda runner: torch.nonzero(runner.batch["target"])),
        ("aten::masked_select", lambda runner: runner.batch["target"].masked_select(runner.batch["target"] > 0)),
        ("aten::_unique2", lambda runner: runner.batch["target"].unique()),
        ("aten::bincount", lambda runner: runner.batch["target"].bincount()),
        ("aten::repeat_interleave", lambda runner: runner.batch["logits"].repeat_interleave(runner.batch["target"], 0)),
        ("aten::copy_", lambda runner: torch.empty_like(runner.batch["logits"]).copy_(runner.batch["logits"])),
        ("aten::_to_copy", lambda runner: runner.batch["logits"].to("cpu", copy=True)),
        ("cpu", lambda runner: runner.batch["target"].cpu()),
        ("numpy", lambda runner: runner.batch["target"].numpy()),
        ("tolist", lambda runner: runner.batch["target"].tolist()),
        ("__getitem__", lambda runner: runner.batch["logits"][runner.batch["target"] > 0]),
        ("__getitem__", lambda runner: runner.batch["logits"][:, [0, 2]]),
        ("tensor", lambda runner: torch.tensor([1, 2], device=runner.engine.device)),
    ],
)
def test_one_read_in_a_step_is_counted(tmp_path, name, read):
    assert [step[name] for step in count_steps(tmp_path, extra=read)] == [1] * 40


@pytest.mark.parametrize(
    "harmless",
    [
        lambda runner: runner.batch["logits"].double(),
        lambda runner: torch.empty_like(runner.batch["logits"]).copy_(runner.batch["logits"], non_blocking=True),
        lambda runner: runner.batch["logits"][runner.batch["target"], :2],
        lambda runner: HostCopy(runner.batch["logits"]).read()[0].tolist(),
    ],
)
def test_what_does_not_wait_is_not_counted(tmp_path, harmless):
    assert count_steps(tmp_path, extra=harmless) == count_steps(tmp_path)
