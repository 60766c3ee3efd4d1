"""What is counted of soft, smoothed and one-hot targets is what scikit-learn counts of the decided ones."""

import tempfile

import numpy as np
import pytest
import torch
import torchmetrics
from catalyst import dl
from kit import Given, fit
from sklearn import metrics as sk
from torch import nn
from torch.nn.functional import one_hot

from assay.callbacks import (
    ClassificationReport,
    ConfusionMatrix,
    Metrics,
    PRCurves,
    PredictionDistribution,
    UsageError,
)
from assay.runner import DictRunner

CLASSES = 4


class Spy(dl.Callback):
    """Keeps what the callbacks saw of outputs and targets, and the metrics of each loader."""

    def __init__(self):
        super().__init__(order=dl.CallbackOrder.External)
        self.parts, self.metrics = {}, {}

    def on_batch_end(self, runner):
        parts = self.parts.setdefault(runner.loader_key, [])
        parts.append((runner.batch["logits"].detach(), runner.batch["target"].detach()))

    def on_loader_end(self, runner):
        self.metrics[runner.loader_key] = dict(runner.loader_metrics)

    def seen(self, loader):
        return [torch.cat(part).numpy() for part in zip(*self.parts[loader], strict=True)]


def diagnostics(task, **options):
    options = {"task": task, "num_classes": 2 if task == "binary" else CLASSES, **options}
    curves, matrix = PRCurves(**options), ConfusionMatrix(**options)
    others = [ClassificationReport(sink=lambda text: None, **options), PredictionDistribution(**options)]
    return [Metrics(["accuracy", "f1"], **options), matrix, curves, *others]


def train(runner, model, data, criterion, callbacks):
    fit(runner, model, data, callbacks, batch=8, lr=0.0, criterion=criterion, logdir=tempfile.mkdtemp())


def run(task, images, targets, criterion, callbacks=(), **options):
    spy = Spy()
    data = [{"image": image, "target": target} for image, target in zip(images, targets, strict=True)]
    train(DictRunner(), Given(), data, criterion, [*callbacks, *diagnostics(task, **options), spy])
    return spy


def check(found, decided, target, scores, average):
    assert found["accuracy"] == pytest.approx((decided == target).mean())
    assert found["f1"] == pytest.approx(sk.f1_score(target, decided, average=average, zero_division=0))
    if average == "macro":
        one = [sk.roc_auc_score(target == c, scores[:, c]) for c in np.unique(target)] if target.ndim == 1 else [
            sk.roc_auc_score(target[:, c], scores[:, c]) for c in range(target.shape[1])
        ]  # fmt: skip
        assert found["roc_auc"] == pytest.approx(np.mean(one), abs=2e-3)


@pytest.mark.parametrize("kind", ["smoothed", "one-hot", "one-hot whole"])
def test_targets_with_a_share_for_each_class_count_as_their_largest(kind):
    numbers, logits = torch.randint(0, CLASSES, (40,)), torch.randn(40, CLASSES)
    whole = one_hot(numbers, CLASSES)
    targets = {"smoothed": whole * 0.8 + 0.05, "one-hot": whole.float(), "one-hot whole": whole}[kind]
    loss = nn.CrossEntropyLoss() if kind != "one-hot whole" else lambda output, target: output.mean()
    spy = run("multiclass", logits, targets, loss)
    shares = logits.softmax(1).numpy()
    check(spy.metrics["valid"], logits.argmax(1).numpy(), numbers.numpy(), shares, "macro")


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_smoothed_yes_and_no_count_as_what_they_were_smoothed_from(task):
    shape = (40, CLASSES) if task == "multilabel" else (40, 1)
    truth, logits = torch.randint(0, 2, shape), torch.randn(shape)
    spy = run(task, logits, truth * 0.9 + 0.05, nn.BCEWithLogitsLoss())
    average = "macro" if task == "multilabel" else "binary"
    check(spy.metrics["valid"], (logits > 0).numpy().astype(int), truth.numpy(), logits.numpy(), average)


def test_a_perfect_model_on_smoothed_targets_is_perfect():
    truth = torch.randint(0, 2, (40, 1))
    found = run("binary", truth * 8.0 - 4, truth * 0.9 + 0.05, nn.BCEWithLogitsLoss()).metrics["valid"]
    assert [found[name] for name in ("accuracy", "f1", "roc_auc", "average_precision")] == [1.0] * 4


def test_masks_with_a_share_for_each_class_count_by_pixel_and_what_has_none_is_left_out():
    numbers, logits = torch.randint(0, CLASSES, (8, 5, 6)), torch.randn(8, CLASSES, 5, 6)
    shares = one_hot(numbers, CLASSES).permute(0, 3, 1, 2) * 0.8 + 0.05
    void = torch.rand(8, 5, 6) < 0.2
    shares = torch.where(void[:, None], 0.0, shares)
    spy = run("multiclass", logits, shares, nn.CrossEntropyLoss(), ignore_index=255)
    decided, counts = logits.argmax(1).numpy(), ~void.numpy()
    assert spy.metrics["valid"]["accuracy"] == pytest.approx((decided == numbers.numpy())[counts].mean())


@pytest.mark.parametrize("stock", [False, True], ids=["DictRunner", "SupervisedRunner"])
def test_catalysts_mixup_leaves_numbers_that_are_right(stock):
    """``MixupCallback`` puts mixed images and targets into the batch: of two classes the larger share counts."""
    numbers = torch.randint(0, CLASSES, (40,))
    targets = one_hot(numbers, CLASSES).float()
    data = [{"image": image, "target": target} for image, target in zip(torch.randn(40, CLASSES), targets, strict=True)]
    spy = Spy()
    callbacks = [dl.MixupCallback(keys=["image", "target"], alpha=1.0), *diagnostics("multiclass"), spy]
    if stock:
        runner = dl.SupervisedRunner(input_key="image", output_key="logits", target_key="target", loss_key="loss")
        train(runner, Given(None), data, nn.CrossEntropyLoss(), callbacks)
    else:
        train(DictRunner(), Given(), data, nn.CrossEntropyLoss(), callbacks)
    logits, mixed = spy.seen("train")
    assert ((mixed > 0) & (mixed < 1)).any()
    check(spy.metrics["train"], logits.argmax(1), mixed.argmax(1), torch.tensor(logits).softmax(1).numpy(), "macro")
    assert np.array_equal(spy.seen("valid")[1].argmax(1), numbers.numpy())


def test_metrics_of_torchmetrics_get_decided_targets():
    numbers, logits = torch.randint(0, CLASSES, (40,)), torch.randn(40, CLASSES)
    options = {"num_classes": CLASSES, "average": "micro"}
    metrics = torchmetrics.MetricCollection(
        {"acc": torchmetrics.classification.MulticlassAccuracy(**options)}, prefix="tm_"
    )
    spy = Spy()
    data = [{"image": i, "target": t} for i, t in zip(logits, one_hot(numbers, CLASSES) * 0.8 + 0.05, strict=True)]
    train(DictRunner(), Given(), data, nn.CrossEntropyLoss(), [Metrics(metrics), spy])
    assert spy.metrics["valid"]["tm_acc"] == pytest.approx((logits.argmax(1) == numbers).float().mean().item())


@pytest.mark.parametrize(
    ("task", "targets", "message"),
    [
        (
            "multiclass", torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0], [-1, -1, -1, -1]]),
            "loader 'train': Metrics takes class numbers from 0 to 3, got 2 others in 'target'",
        ),
        (
            "binary", torch.tensor([[0.2], [255.0], [-1.0]]),
            "loader 'train', sample 1 of the batch: 'target' holds 255, and Metrics takes targets from 0 to 1: .*/ 255",
        ),
        (
            "multilabel", torch.tensor([[0.0, 1, 2, 1], [0, 0, 0, 0], [1, 1, 1, 1]]),
            "loader 'train', sample 0 of the batch: 'target' holds 2, and Metrics takes targets from 0 to 1",
        ),
    ],
)  # fmt: skip
def test_targets_that_mean_no_class_are_an_error(task, targets, message):
    classes = 2 if task == "binary" else CLASSES
    data = [{"image": image, "target": t} for image, t in zip(torch.randn(3, targets.shape[1]), targets, strict=True)]
    with pytest.raises(UsageError, match=message):
        train(DictRunner(), Given(), data, lambda o, t: o.mean(), [Metrics(["f1"], task=task, num_classes=classes)])
