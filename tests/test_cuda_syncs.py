"""On a GPU, no step of a training waits for it: torch raises an error where one would.

It does so (``torch.cuda.set_sync_debug_mode``) wherever an operation of its own waits: a value that is read, an index
that is searched for, a copy that blocks. It sees neither events that are waited for (``HostCopy.read``, one step late)
nor ``torch.distributed``.
"""

import pytest
import torch
from catalyst import dl
from gpu_runs import CRITERION, LOSSES, make_callback
from test_fake_cuda import EXPORTED
from test_host_reads import (
    CLASSES,
    Classifier,
    Detector,
    Segmenter,
    box_loss,
    boxes,
    classes,
    everything_else,
    loaders,
    masks,
    stack_but_boxes,
)
from torch import nn

from assay.callbacks import (
    BestWorstBatches,
    Embeddings,
    classification_diagnostics,
    detection_diagnostics,
    segmentation_diagnostics,
)
from assay.callbacks.support.host_copy import HostCopy
from assay.runner import DictRunner, Engine, TensorBoardLogger

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: torch finds none on this machine"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]
STEPS = 2 * (10 + 10)
ERROR = "called a synchronizing CUDA operation"


class Strict(DictRunner):
    """Waiting is an error from before the first callback of a step to behind the runner's own logging at its end."""

    def __init__(self, **options):
        super().__init__(**options)
        self.steps = []

    def on_batch_start(self, runner):
        torch.cuda.set_sync_debug_mode("error")
        super().on_batch_start(runner)

    def on_batch_end(self, runner):
        super().on_batch_end(runner)
        torch.cuda.set_sync_debug_mode("default")
        self.steps.append(self.batch["logits"])


@pytest.fixture(autouse=True)
def fresh():
    """The mode does not outlive a test."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def classification(folder):
    callbacks = [
        *classification_diagnostics(
            "full", metrics=["accuracy", "f1", "balanced_accuracy", "iou"], class_names=CLASSES,
            gradients_every_n_steps=1, k_samples=4,
        ),
        BestWorstBatches(["loss", "accuracy"], [True, False], class_names=CLASSES, prefix="more"),
        Embeddings(max_samples=16, class_names=CLASSES),
    ]  # fmt: skip
    return strict_classifier([*callbacks, *everything_else(folder)])


def strict_classifier(callbacks):
    runner = Strict(losses=LOSSES, clip_grad_norm=1.0, accumulate_steps=2)
    return runner, Classifier(), callbacks, loaders(classes), CRITERION


def segmentation(folder):
    callbacks = segmentation_diagnostics("full", class_names=CLASSES, gradients_every_n_steps=1, k_samples=4)
    return Strict(), Segmenter(3), [*callbacks, *everything_else(folder)], loaders(masks), nn.CrossEntropyLoss()


def detection(folder):
    callbacks = detection_diagnostics("full", class_names=["none", "cat"], gradients_every_n_steps=1)
    batches = loaders(boxes, collate_fn=stack_but_boxes)
    return Strict(), Detector(), [*callbacks, *everything_else(folder)], batches, box_loss


def train(runner, model, callbacks, batches, criterion, **options):
    """Train for two epochs of 10 batches of both kinds."""
    torch.manual_seed(0)
    runner.train(
        loaders=batches,
        model=model,
        criterion=criterion,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True),
        callbacks={f"{i:02d}": callback for i, callback in enumerate(callbacks)},
        num_epochs=2,
        hparams={"lr": 0.1},
        **options,
    )
    return runner


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("task", [classification, segmentation, detection])
def test_no_step_with_full_diagnostics_waits_for_the_gpu(tmp_path, task, precision):
    runner, model, callbacks, batches, criterion = task(tmp_path)
    loggers = {"tensorboard": TensorBoardLogger(tmp_path, log_every_steps=1)}
    train(runner, model, callbacks, batches, criterion, engine=Engine("cuda", precision), loggers=loggers)
    assert len(runner.steps) == STEPS
    seen = runner.steps[0][0]["boxes"] if task is detection else runner.steps[0]
    assert seen.is_cuda
    assert list(tmp_path.glob("train/events*"))


@pytest.mark.parametrize("name", EXPORTED)
def test_no_step_with_one_callback_waits_for_the_gpu(tmp_path, name):
    runner, *parts = strict_classifier([make_callback(name)])
    loggers = {"tensorboard": TensorBoardLogger(tmp_path, log_every_steps=1)}
    train(runner, *parts, engine=Engine("cuda"), loggers=loggers)
    assert len(runner.steps) == STEPS


class Probe(dl.Callback):
    """Does one thing more at one event."""

    def __init__(self, event, work):
        super().__init__(order=dl.CallbackOrder.External)
        setattr(self, event, work)


def train_with(probe):
    return train(Strict(), Segmenter(3), [probe], loaders(masks), nn.CrossEntropyLoss(), engine=Engine("cuda"))


@pytest.mark.parametrize("event", ["on_batch_start", "on_batch_end"])
@pytest.mark.parametrize(
    "wait",
    [
        lambda image: image.sum().item(),
        lambda image: image.cpu(),
        lambda image: image.nonzero(),
        lambda image: image[image > 0],
        lambda image: image[:, [0, 2]],
        lambda image: torch.tensor([1, 2], device=image.device),
    ],
    ids=["item", "cpu", "nonzero", "mask", "list", "tensor"],
)
def test_a_step_that_waits_is_an_error(wait, event):
    with pytest.raises(RuntimeError, match=ERROR):
        train_with(Probe(event, lambda runner: wait(runner.batch["image"])))


def test_a_wait_between_steps_is_none():
    runner = train_with(Probe("on_loader_end", lambda runner: torch.ones(1, device=runner.engine.device).item()))
    assert len(runner.steps) == STEPS


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x,
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.transpose(1, 3),
        lambda x: x[:, :, ::2, 1:],
        lambda x: x[:1].expand(5, -1, -1, -1),
        lambda x: x.bfloat16(),
        lambda x: x > 0,
        lambda x: x[:0],
    ],
    ids=["plain", "channels_last", "transposed", "strided", "expanded", "bf16", "bool", "empty"],
)
def test_starting_a_copy_of_any_layout_waits_for_nothing(view):
    tensor = view(torch.arange(2 * 3 * 4 * 5, device="cuda", dtype=torch.float32).reshape(2, 3, 4, 5))
    torch.cuda.set_sync_debug_mode("error")
    copy = HostCopy(tensor)
    torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(copy.read(), tensor.cpu())
