"""A batch that is no dict: each callback works, or says in one line what it is and what to do."""

import inspect
import re
from collections import namedtuple

import pytest
import torch
from catalyst import dl
from kit import fit
from torch import nn
from torch.utils.data import TensorDataset

from assay import callbacks
from assay.callbacks import BestWorstBatches, BestWorstSamples, ConfusionMatrix, Metrics, UsageError
from assay.callbacks.errors import described

pytestmark = pytest.mark.filterwarnings("ignore:No ``I(Criterion|Backward|Optimizer)Callback")

CALLBACKS = sorted(
    name
    for name in callbacks.__all__
    if inspect.isclass(getattr(callbacks, name)) and issubclass(getattr(callbacks, name), dl.Callback)
)
OF_NO_BATCH = {
    "Curves",
    "Findings",
    "GradientStats",
    "HParams",
    "OptimizerMonitor",
    "OverheadBudget",
    "TimeMonitor",
    "NonFiniteGuard",
    "Report",
    "Results",
}

# What asks for other batches: boxes, masks, a data set, or a preview before the first step.
OTHERS = ("AugmentationPreview", "BoxConfusion", "BoxCurves", "BoxMetrics", "PseudoLabels", "GradCAM", "ImageOverlap")


class Labels(TensorDataset):
    def set_target(self, index, target):
        raise NotImplementedError


class Tuples(dl.Runner):
    """A runner as most are written: the loader gives tuples, and the batch stays one."""

    def keep(self, x, y, logits):
        return x, y, logits

    def handle_batch(self, batch):
        x, y = batch
        logits = self.model(x)
        loss = nn.functional.cross_entropy(logits, y)
        self.batch_metrics["loss"] = loss
        self.batch = self.keep(x, y, logits)
        self.loader_metrics["loss"] = loss.item()
        if self.is_train_loader:
            self.engine.backward(loss)
            self.optimizer.step()
            self.optimizer.zero_grad()


def train(given, folder, runner=None):
    torch.manual_seed(0)
    data = Labels(torch.randn(8, 3, 6, 6), torch.arange(8) % 3)
    model, runner = nn.Sequential(nn.Flatten(), nn.Linear(108, 3)), runner or Tuples()
    options = {"dataset": data} if given in ("PseudoLabels",) else {}
    if isinstance(given, str):
        given = [make(given, options)]
    return fit(runner, model, data, given, batch=4, tensorboard=folder, hparams={"lr": 0.1})


def make(name, options=()):
    # A callback may pass its base's arguments, class_names among them, on as options.
    known = inspect.signature(getattr(callbacks, name)).parameters
    classes = {"class_names": ["a", "b", "c"]} if {"class_names", "options"} & known.keys() else {}
    folders = {
        "PredictionTable": {"folder": "predictions"},
        "Results": {"folder": "results"},
        "Report": {"folder": "."},
    }
    folders["SampleHistory"] = {"folder": "samples"}
    # The toys validate on what they train on, which is worthless.
    extra = {"PseudoLabels": {"loader": "valid"}, "Findings": {"stop": False}, **folders}.get(name, {})
    return getattr(callbacks, name)(**{**classes, **extra, **dict(options)})


@pytest.mark.parametrize("name", CALLBACKS)
def test_each_works_with_a_tuple_or_says_what_it_needs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name in OF_NO_BATCH:
        train(name, tmp_path)
        return
    with pytest.raises(UsageError) as caught:
        train(name, tmp_path)
    said = str(caught.value)
    assert "\n" not in said
    assert "tensor(" not in said
    assert len(said) < 400
    assert re.search("got a (tuple|list) of|no dict but a tuple of", said)
    assert "float32 [4, 3, 6, 6], int64 [4]" in said
    assert "self.batch = {" in said or "have the data set return {" in said
    assert name in said


@pytest.mark.parametrize("kind", [list, tuple, namedtuple("Parts", "x y logits"), "object"])
def test_any_kind_of_batch_is_told_by_its_shapes(kind, tmp_path):
    class Other(Tuples):
        def keep(self, *parts):
            if kind == "object":
                return type("Batch", (), {})()
            return kind(*parts) if hasattr(kind, "_fields") else kind(parts)

    name = {"object": "Batch"}.get(kind) or kind.__name__
    with pytest.raises(UsageError, match=f"no dict but a {name}.*: in handle_batch set self.batch = {{'logits': ..., "):
        train([ConfusionMatrix(num_classes=3)], tmp_path, Other())


def test_a_runner_that_makes_a_dict_of_a_tuple_works_with_all_but_the_preview(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Dicts(Tuples):
        def keep(self, x, y, logits):
            return {"image": x, "target": y, "logits": logits}

    given = [make(name) for name in CALLBACKS if name not in OTHERS]
    runner = train(given, tmp_path, Dicts())
    assert 0 <= runner.epoch_metrics["valid"]["accuracy"] <= 1
    with pytest.raises(UsageError, match="AugmentationPreview looks at the batch as the loader gives it, and needs a"):
        train("AugmentationPreview", tmp_path, Dicts())


@pytest.mark.parametrize(
    "callback", [ConfusionMatrix(num_classes=3), Metrics(num_classes=3), callbacks.ImageOverlap(num_classes=3)]
)
def test_an_output_of_several_tensors_is_told_by_its_shapes(callback, tmp_path):
    class Pairs(Tuples):
        def keep(self, x, y, logits):
            return {"image": x, "target": y, "logits": (logits, logits[:, :1])}

    says = (
        r"needs a tensor in 'logits' of the batch, got a tuple of 2 \(float32 \[4, 3\], float32 \[4, 1\]\): give each"
    )
    with pytest.raises(UsageError, match=says):
        train([callback], tmp_path, Pairs())


@pytest.mark.parametrize("kind", [BestWorstBatches, BestWorstSamples])
def test_an_own_drawing_needs_a_dict_too(kind, tmp_path):
    with pytest.raises(UsageError, match=f"{kind.__name__} needs the batch as a dict, got a tuple of 3"):
        train([kind(visualize_batch=lambda batch: batch["image"])], tmp_path)


def test_what_a_value_is_is_said_without_its_numbers():
    tensor = torch.arange(6.0).reshape(2, 3)
    assert described(tensor) == "float32 [2, 3]"
    assert described(tensor.numpy()) == "float32 [2, 3]"
    assert described((tensor, 3, "text")) == "tuple of 3 (float32 [2, 3], int, str)"
    assert described([]) == "empty list"
    assert described({"a": [tensor] * 9}) == f"dict of 1 ('a': list of 9 ({'float32 [2, 3], ' * 6}and 3 more))"
    assert described([[[tensor]]]) == "list of 1 (list of 1 (list))"
    assert described(None) == "NoneType"
