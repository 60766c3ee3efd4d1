"""A target that is no class is named with its sample by every callback that counts classes, under any runner."""

import pytest
import torch
from catalyst import dl
from kit import Given, fit

from assay.callbacks import (
    ClassificationReport,
    ConfusionMatrix,
    Metrics,
    PRCurves,
    PredictionDistribution,
    UsageError,
)
from assay.runner import DictRunner

BUILDS = [Metrics, ConfusionMatrix, ClassificationReport, PRCurves, PredictionDistribution]


def train(callback, targets, outputs, tmp_path, stock=False):
    images = torch.randn(len(targets), *outputs)
    pairs = enumerate(zip(images, targets, strict=True))
    data = [{"image": image, "target": target, "sample_id": f"leaf-{number}"} for number, (image, target) in pairs]
    keys = {"input_key": "image", "output_key": "logits", "target_key": "target", "loss_key": "loss"}
    runner = dl.SupervisedRunner(**keys) if stock else DictRunner()
    parts = {"criterion": None, "optimizer": None} if stock else {"criterion": lambda o, t: o.mean()}
    fit(
        runner, Given(None if stock else "logits"), {"valid" if stock else "train": data}, [callback], batch=2,
        logdir=str(tmp_path / "run"), **parts,
    )  # fmt: skip


@pytest.mark.parametrize("stock", [False, True], ids=["dict_runner", "supervised_runner"])
@pytest.mark.parametrize("build", BUILDS)
def test_the_sample_is_named(build, stock, tmp_path):
    targets = torch.tensor([0, 1, 2, -100])
    message = (
        f"^loader '(train|valid)', sample_id 'leaf-3': 'target' holds -100, and {build.__name__} takes class numbers "
        "from 0 to 2: ignore_index=-100 leaves out what it marks.$"
    )
    with pytest.raises(UsageError, match=message):
        train(build(num_classes=3), targets, (3,), tmp_path, stock)


@pytest.mark.parametrize(
    ("task", "value", "ignored", "advice"),
    [
        ("multiclass", 3, None, "from 0 to 2: classes count from 0, and those of data that count from 1 need 1 less."),
        ("multiclass", 255, -1, "from 0 to 2 or ignore_index=-1: ignore_index=255 leaves out what it marks."),
        ("multiclass", 17, None, "from 0 to 2."),
        ("binary", 255, None, "from 0 to 1: ignore_index=255 leaves .*; masks of 0 and 255 need / 255."),
        ("multilabel", -1.0, None, r"from 0 to 1: .*; targets of -1 and 1 need \(target \+ 1\) / 2."),
    ],
)
def test_what_to_do_is_said(task, value, ignored, advice, tmp_path):
    shape = (4, 3) if task == "multilabel" else (4,)
    targets = torch.zeros(shape, dtype=torch.tensor(value).dtype)
    targets[2] = value
    callback = Metrics(["f1"], task=task, num_classes=None if task == "binary" else 3, ignore_index=ignored)
    with pytest.raises(UsageError, match=f"sample_id 'leaf-2': 'target' holds {value:g}, .*{advice}$"):
        train(callback, targets, () if task == "binary" else (3,), tmp_path)
