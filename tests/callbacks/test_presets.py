"""The lists of diagnostics for a task: what is in them, and that they run together."""

import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks import (
    OverheadBudget,
    UsageError,
    classification_diagnostics,
    detection_diagnostics,
    regression_diagnostics,
    segmentation_diagnostics,
)
from assay.callbacks.classes.class_counts import ClassCounts
from assay.runner import DictRunner, LossTerm

LIGHT = ["BestWorstBatches", "ConfusionMatrix", "ClassificationReport", "OptimizerMonitor", "TimeMonitor"]
FULL = [
    "BestWorstSamples", "GradCAM", "FixedSamples", "RandomSamples", "PredictionDistribution", "PRCurves",
    "GradientStats", "AugmentationPreview", "DataOverview", "Curves", "SampleHistory",
]  # fmt: skip


BY_CHANCE = {"FixedSamples", "RandomSamples"}
BUILDERS = [classification_diagnostics, segmentation_diagnostics, detection_diagnostics, regression_diagnostics]


def kinds(callbacks):
    return [type(callback).__name__ for callback in callbacks]


def test_each_level_adds_to_the_one_before():
    assert kinds(classification_diagnostics("off", num_classes=3)) == ["Metrics"]
    assert kinds(classification_diagnostics("light", num_classes=3)) == ["Metrics", *LIGHT]
    assert kinds(classification_diagnostics(num_classes=3)) == ["Metrics", *LIGHT, *FULL]


def test_segmentation_has_the_overlap_of_regions_too():
    assert kinds(segmentation_diagnostics("off", num_classes=3)) == ["Metrics"]
    assert kinds(segmentation_diagnostics("light", num_classes=3)) == ["Metrics", "ImageOverlap", *LIGHT]
    assert kinds(segmentation_diagnostics(num_classes=3)) == ["Metrics", "ImageOverlap", *LIGHT, *FULL]
    options = {"task": "multilabel", "class_names": ["a", "b"], "ignore_index": 9, "target_key": "t", "prefix": "p"}
    overlap = segmentation_diagnostics("light", output_key="o", **options)[1]
    assert {name: getattr(overlap, name) for name in options} == options
    assert (overlap.output_key, overlap.metrics) == ("o", ["iou", "boundary_iou"])


def test_a_detector_has_its_own_list():
    light = ["BoxMetrics", "BestWorstSamples", "OptimizerMonitor", "TimeMonitor"]
    assert kinds(detection_diagnostics("off")) == ["BoxMetrics"]
    assert kinds(detection_diagnostics("light")) == light
    of_boxes = ["BoxCurves", "BoxConfusion"]
    assert kinds(detection_diagnostics()) == [
        *light,
        *of_boxes,
        "FixedSamples",
        "RandomSamples",
        "GradientStats",
        "AugmentationPreview",
        "DataOverview",
        "Curves",
        "SampleHistory",
    ]
    curves, confusion = detection_diagnostics(min_score=0.3, min_iou=0.4, prefix="second")[2:4]
    assert (curves.count_key, curves.min_score, curves.min_iou) == (confusion.count_key, 0.3, 0.4)


def test_a_regression_has_its_own_list():
    light = ["Metrics", "BestWorstBatches", "OptimizerMonitor", "TimeMonitor"]
    full = ["BestWorstSamples", "GradCAM", "FixedSamples", "RandomSamples", "GradientStats", "AugmentationPreview"]
    full.append("Curves")
    assert kinds(regression_diagnostics("off")) == ["Metrics"]
    assert kinds(regression_diagnostics("light")) == light
    assert kinds(regression_diagnostics()) == [*light, *full]


@pytest.mark.parametrize("build", BUILDERS)
def test_an_unknown_level_is_refused(build):
    options = {} if build in (detection_diagnostics, regression_diagnostics) else {"num_classes": 3}
    with pytest.raises(UsageError, match="unknown level 'ful'; did you mean 'full'"):
        build("ful", **options)


@pytest.mark.parametrize("build", BUILDERS)
def test_a_budget_is_set_for_the_diagnostics_where_there_are_some(build):
    options = {} if build in (detection_diagnostics, regression_diagnostics) else {"num_classes": 3}
    for level in ("light", "full"):
        *others, budget = build(level, max_overhead=0.1, **options)
        assert kinds(others) == kinds(build(level, **options))
        assert (type(budget), budget.max_overhead) == (OverheadBudget, 0.1)
    assert kinds(build("off", max_overhead=0.1, **options)) == kinds(build("off", **options))


def test_a_budget_out_of_range_is_refused():
    with pytest.raises(UsageError, match=r"max_overhead must be greater than 0 and at most 1 \(0.05 is 5%\), got 5"):
        classification_diagnostics(num_classes=3, max_overhead=5)


def test_options_reach_the_callbacks_that_take_them():
    names = ["a", "b", "c"]
    keys = {"target_key": "truth", "output_key": "scores"}
    made = dict(zip(["Metrics", *LIGHT, *FULL], classification_diagnostics(
        class_names=names, ignore_index=255, k_samples=5, gradients_every_n_steps=3, **keys
    ), strict=True))  # fmt: skip
    for name in ("Metrics", "ConfusionMatrix", "ClassificationReport", "PRCurves", "PredictionDistribution"):
        assert (made[name].class_names, made[name].ignore_index) == (names, 255)
        assert (made[name].target_key, made[name].output_key) == ("truth", "scores")
    assert made["BestWorstSamples"].keys == {"image": "image", "target": "truth", "output": "scores"}
    assert made["BestWorstSamples"].k_samples == made["GradCAM"].k_samples == made["BestWorstBatches"].k_images == 5
    assert made["AugmentationPreview"].k_images == 5
    for name in ("FixedSamples", "RandomSamples"):
        assert (made[name].keys, made[name].k_samples) == (made["BestWorstSamples"].keys, 5)
        assert made[name].tags("train") == ()
    counts = [one.k_samples for one in classification_diagnostics(num_classes=3) if kinds([one])[0] in BY_CHANCE]
    assert counts == [8, 8]
    assert made["GradientStats"].every_n_steps == 3
    assert made["BestWorstSamples"].count_key == made["GradCAM"].count_key


def train(folder, model, items, callbacks, criterion, runner=None, loggers=None, **options):
    torch.manual_seed(0)
    runner = runner or DictRunner()
    return fit(
        runner, model, {key: DataLoader(items, batch_size=4, **options) for key in ("train", "valid")}, callbacks,
        lr=0.0, criterion=criterion, epochs=2, **{"logdir": str(folder)} if loggers is None else {"loggers": loggers},
    )  # fmt: skip


class Masks(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2))
        self.head = nn.Conv2d(4, classes, 1)

    def forward(self, image):
        return {"logits": self.head(self.layers(image))}


LONG = pytest.mark.long("trains and draws, as it does with several classes")


@pytest.mark.parametrize("task", ["multiclass", *(pytest.param(task, marks=LONG) for task in ("binary", "multilabel"))])
def test_a_segmentation_is_shown_from_end_to_end(task, tmp_path, read_events):
    classes, image = (1 if task == "binary" else 3), torch.rand(12, 3, 16, 16)
    target = {
        "binary": (image[:, :1] > 0.5).float(),
        "multiclass": image.argmax(dim=1),
        "multilabel": (image > 0.5).float(),
    }[task]
    criterion = nn.CrossEntropyLoss(ignore_index=255) if task == "multiclass" else nn.BCEWithLogitsLoss()
    if task == "multiclass":
        target[:, :2] = 255
    items = [{"image": image[i], "target": target[i], "sample_id": f"tile-{i}"} for i in range(len(image))]
    options = {"num_classes": None if task == "binary" else classes, "ignore_index": 255}
    callbacks = segmentation_diagnostics(task=task, k_samples=3, gradients_every_n_steps=1, **options)
    runner = train(tmp_path, Masks(classes), items, callbacks, criterion)
    events = read_events(tmp_path / "valid")
    expected = {
        "1_overview/worst/loss",
        "7_grad_cam/worst/loss",
        "2_confusion_matrix",
        "5_predictions/roc",
        "5_predictions/distribution",
    }
    assert expected <= set(events.Tags()["images"])
    counted = 12 * (14 if task == "multiclass" else 16) * 16
    assert int(callbacks[3].counts_.sum()) == counted * (3 if task == "multilabel" else 1)
    assert {callback.unit for callback in callbacks if isinstance(callback, ClassCounts)} == {"pixels"}
    header = events.Tensors("1_overview/report/text_summary")[0].tensor_proto.string_val[0].decode().splitlines()[0]
    assert header.split("|")[-2].strip() == "pixels"
    for name in ("iou", "iou_per_image", "boundary_iou", "boundary_iou_per_image"):
        assert 0 <= runner.history[2]["valid"][name] <= 1


class Numbers(nn.Module):
    """Predicts one number per image, or one per pixel."""

    def __init__(self, dense):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(4, 1, 1)
        self.dense = dense

    def forward(self, image):
        values = self.head(self.layers(image))
        return {"logits": values if self.dense else values.mean(dim=(2, 3))}


@pytest.mark.parametrize("dense", [False, True])
def test_a_regression_is_shown_from_end_to_end(dense, tmp_path, read_events):
    image = torch.rand(12, 3, 16, 16)
    target = image.mean(dim=1, keepdim=True) * 5 + 2
    target = target if dense else target.mean(dim=(2, 3))
    items = [{"image": image[i], "target": target[i], "sample_id": f"view-{i}"} for i in range(len(image))]
    model = Numbers(dense)
    callbacks = regression_diagnostics(k_samples=3, gradients_every_n_steps=1)
    runner = train(tmp_path, model, items, callbacks, nn.MSELoss())
    with torch.no_grad():
        error = (model(image)["logits"] - target).double()
    expected = {
        "mae": error.abs().mean().item(),
        "mse": error.square().mean().item(),
        "r2": 1 - (error.square().sum() / (target - target.mean()).square().sum()).item(),
    }
    assert {name: runner.history[2]["valid"][name] for name in expected} == pytest.approx(expected, rel=1e-4)
    tags = set(read_events(tmp_path / "valid").Tags()["images"])
    assert {
        "1_overview/worst/loss",
        "6_samples/best/loss",
        "7_grad_cam/worst/loss",
        "9_batches/worst/loss",
    } <= tags


class Detector(nn.Module):
    """Finds the one box of each image, shifted, and nothing in every fourth image."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, image):
        boxes = torch.tensor([[2.0, 2.0, 12.0, 12.0]]) + self.shift
        found = [
            {
                "boxes": boxes if one.mean() < 0.75 else boxes[:0],
                "scores": torch.ones(1) if one.mean() < 0.75 else torch.ones(0),
                "labels": torch.ones(1 if one.mean() < 0.75 else 0, dtype=torch.int64),
            }
            for one in image
        ]
        return {"logits": found, "size": boxes.sum().reshape(1, 1).expand(len(image), 1)}


def test_a_detection_is_shown_from_end_to_end(tmp_path, read_events):
    true = {"boxes": torch.tensor([[2.0, 2.0, 12.0, 12.0]]), "labels": torch.ones(1, dtype=torch.int64)}
    items = [
        {"image": torch.full((3, 16, 20 + i), 0.9 if i % 4 == 3 else 0.2), "target": true, "sample_id": f"plot-{i}"}
        for i in range(8)
    ]

    def collate(batch):
        return {"size_true": torch.zeros(len(batch), 1), **{key: [item[key] for item in batch] for key in batch[0]}}

    callbacks = detection_diagnostics(k_samples=2, gradients_every_n_steps=1, class_names=["nothing", "plot"])
    runner = DictRunner(losses=[LossTerm("size", "size_true")])
    train(tmp_path, Detector(), items, callbacks, nn.MSELoss(), runner, collate_fn=collate)
    events = read_events(tmp_path / "valid")
    assert {"6_samples/best/box_f1", "1_overview/worst/box_f1"} <= set(events.Tags()["images"])
    table = events.Tensors("1_overview/sample_ids/box_f1/text_summary")[0].tensor_proto.string_val[0].decode()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert rows == [
        ["worst", "1", "plot-3", "0"], ["worst", "2", "plot-7", "0"],
        ["best", "1", "plot-0", "1"], ["best", "2", "plot-1", "1"],
    ]  # fmt: skip


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.kind, self.size = nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, picture):
        features = self.body(picture)
        return self.kind(features.mean(dim=(2, 3))), self.size(features.mean(dim=(2, 3)))


class TwoTasks(dl.Runner):
    """A class and a number of each picture, by names and keys of the user's own."""

    def forward(self, batch):
        kinds, sizes = self.model(batch["picture"])
        return {"kind_scores": kinds, "size_scores": sizes[:, 0]}

    def handle_batch(self, batch):
        self.batch = {**batch, **self.forward(batch)}
        terms = {
            f"{name}_loss": self.criterion[name](self.batch[f"{name}_scores"], batch[name]) for name in ("kind", "size")
        }
        self.batch_metrics.update(terms)
        if self.is_train_loader:
            self.engine.backward(sum(terms.values()))
            self.optimizer.step()
            self.optimizer.zero_grad()


@pytest.mark.filterwarnings("ignore:No ``I(Criterion|Backward|Optimizer)Callback")
def test_two_tasks_have_a_list_each_by_keys_of_their_own(tmp_path, read_events):
    torch.manual_seed(2)
    picture = torch.rand(12, 3, 8, 8)
    items = [
        {"picture": picture[i], "kind": int(picture[i].mean(dim=(1, 2)).argmax()), "size": picture[i].mean() * 3,
         "name": f"view-{i}"} for i in range(12)
    ]  # fmt: skip
    keys = {"image_key": "picture", "sample_id_key": "name", "gradients_every_n_steps": 1, "k_samples": 12}
    kinds = classification_diagnostics(
        class_names=["r", "g", "b"], target_key="kind", output_key="kind_scores", loss_key="kind_loss",
        criterion_key="kind", **keys,
    )  # fmt: skip
    sizes = regression_diagnostics(
        target_key="size", output_key="size_scores", loss_key="size_loss", criterion_key="size", prefix="size", **keys
    )
    runner = train(
        tmp_path, TwoOutputs(), items, [*kinds, *sizes], {"kind": nn.CrossEntropyLoss(), "size": nn.MSELoss()},
        TwoTasks(), loggers={"tensorboard": dl.TensorboardLogger(str(tmp_path))},
    )  # fmt: skip
    model, found = runner.model, runner.epoch_metrics["valid"]
    with torch.no_grad():
        scores = [model(item["picture"][None]) for item in items]
    errors = {
        item["name"]: (float(size) - float(item["size"])) ** 2 for item, (_, size) in zip(items, scores, strict=True)
    }
    right = [int(kind.argmax()) == item["kind"] for item, (kind, _) in zip(items, scores, strict=True)]
    assert found["accuracy"] == pytest.approx(sum(right) / 12)
    assert found["size/mse"] == pytest.approx(sum(errors.values()) / 12, rel=1e-4)
    events = read_events(tmp_path / "valid")
    tags = set(events.Tags()["images"])
    assert {"9_batches/worst/kind_loss", "9_batches/worst/size_loss/size", "1_overview/worst/loss_kind"} <= tags
    assert "7_grad_cam/worst/loss_size/size" in tags
    table = events.Tensors("1_overview/sample_ids/loss_size/size/text_summary")[0].tensor_proto.string_val[0].decode()
    worst = [line.split("|")[3].strip() for line in table.splitlines()[2:] if line.split("|")[1].strip() == "worst"]
    assert worst == sorted(errors, key=errors.get, reverse=True)
    assert "9_gradients/map" in read_events(tmp_path / "train").Tags()["images"]


@pytest.mark.parametrize("build", BUILDERS)
def test_a_list_with_a_prefix_leaves_what_is_about_the_run_to_the_other(build):
    options = {} if build in (detection_diagnostics, regression_diagnostics) else {"num_classes": 3}
    of_the_run = {"OptimizerMonitor", "TimeMonitor", "GradientStats", "Curves", "SampleHistory"}
    first, second = build(**options), build(prefix="second", **options)
    assert kinds(second) == [kind for kind in kinds(first) if kind not in of_the_run]
    assert {callback.prefix for callback in second} == {"second"}
    with pytest.raises(UsageError, match="max_overhead is about the whole run: give it to the list without a prefix"):
        build(prefix="second", max_overhead=0.1, **options)


@pytest.mark.parametrize("build", [classification_diagnostics, segmentation_diagnostics, regression_diagnostics])
def test_samples_that_are_no_images_are_not_shown(build):
    options = {} if build is regression_diagnostics else {"num_classes": 3}
    of_images = {"BestWorstBatches", "BestWorstSamples", "GradCAM", "AugmentationPreview", "DataOverview", *BY_CHANCE}
    found = kinds(build(image_key=None, **options))
    assert found == [kind for kind in kinds(build(**options)) if kind not in of_images]
    assert "GradientStats" in found
