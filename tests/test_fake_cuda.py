"""Every diagnostic and the runner's own step on CUDA tensors, on a machine without a GPU.

An operation on tensors of two devices, and a value that the host reads, are errors here as they would be on a GPU,
where the second is a wait. ``tests/test_cuda_syncs.py`` does it on a real one.
"""

import inspect

import pytest
import torch
from catalyst import dl
from test_host_reads import (
    CLASSES,
    Classifier,
    Detector,
    Segmenter,
    box_loss,
    boxes,
    classes,
    loaders,
    masks,
    stack_but_boxes,
)
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor

from assay import callbacks
from assay.callbacks import detection_diagnostics, segmentation_diagnostics
from assay.runner import LossTerm
from benchmarks.fake_cuda import CUDA, STEPS, FakeEngine, FakeRunner, StepsAreDoneError, fake_cuda

EXPORTED = sorted(
    name
    for name in callbacks.__all__
    if inspect.isclass(getattr(callbacks, name)) and issubclass(getattr(callbacks, name), dl.Callback)
    # Among the diagnostics of boxes; of a data set of its own.
    if name not in ("BoxConfusion", "BoxCurves", "BoxMetrics", "PseudoLabels")
)
OPTIONS = {"GradientStats": {"every_n_steps": 1, "per_parameter": True, "update_ratio": True}}


def run(folder, key, make_model, batches, criterion, given, **options):
    """Make the first steps of one loader on a GPU that is not there, and return the runner."""
    with fake_cuda() as mode:
        with mode, torch.device("cuda"):
            model = make_model()
        runner = FakeRunner(mode, **options)
        with pytest.raises(StepsAreDoneError), runner.loop.step:
            runner.train(
                engine=FakeEngine(),
                model=model,
                criterion=criterion,
                optimizer=torch.optim.Adam(model.parameters(), lr=0.1, fused=True),
                loaders={key: batches.pop(key), **batches},  # the first one is run
                callbacks={str(i): callback for i, callback in enumerate(given)},
                num_epochs=1,
                hparams={"lr": 0.1},
                logdir=str(folder),
            )
    assert runner.loop.observed == STEPS
    return runner


def classify(folder, key, given, weight=None):
    losses = [
        LossTerm("logits", "target", criterion="class"),
        LossTerm("size", "true_size", criterion="size", weight=0.5),
    ]
    criterion = {"class": nn.CrossEntropyLoss(weight), "size": nn.MSELoss()}
    options = {"losses": losses, "clip_grad_norm": 1.0, "accumulate_steps": 2}
    return run(folder, key, Classifier, loaders(classes), criterion, given, **options)


@pytest.mark.parametrize("key", ["train", "valid"])
def test_a_step_without_diagnostics_stays_on_the_gpu(tmp_path, key):
    runner = classify(tmp_path, key, [])
    loss = runner.batch_metrics["loss"]
    assert isinstance(loss, FakeTensor)
    assert loss.device == CUDA


@pytest.mark.parametrize("key", ["train", "valid"])
@pytest.mark.parametrize("name", EXPORTED)
def test_every_exported_callback_observes_a_gpu(tmp_path, name, key):
    kind = getattr(callbacks, name)
    given = {"class_names": CLASSES} if "class_names" in inspect.signature(kind).parameters else {}
    classify(tmp_path, key, [kind(**given, **OPTIONS.get(name, {}))])


@pytest.mark.parametrize("key", ["train", "valid"])
@pytest.mark.parametrize("task", ["multiclass", "binary"])
def test_diagnostics_of_masks_observe_a_gpu(tmp_path, task, key):
    names = {"class_names": CLASSES} if task == "multiclass" else {"class_names": ["no", "yes"], "ignore_index": 2}
    given = segmentation_diagnostics("full", task=task, gradients_every_n_steps=1, k_samples=4, **names)
    channels = 3 if task == "multiclass" else 1
    criterion = nn.CrossEntropyLoss() if task == "multiclass" else lambda output, target: (output[:, 0] - target).mean()
    run(tmp_path, key, lambda: Segmenter(channels), loaders(masks), criterion, given)


@pytest.mark.parametrize("key", ["train", "valid"])
def test_diagnostics_of_boxes_observe_a_gpu(tmp_path, key):
    given = detection_diagnostics("full", class_names=["none", "cat"], gradients_every_n_steps=1)
    run(tmp_path, key, Detector, loaders(boxes, collate_fn=stack_but_boxes), box_loss, given)


def test_class_weights_made_on_the_host_meet_targets_on_the_gpu(tmp_path):
    classify(tmp_path, "train", [], weight=torch.tensor([1.0, 2.0, 3.0]))


def probe(work):
    callback = dl.Callback(order=dl.CallbackOrder.External)
    callback.on_batch_end = work
    return callback


@pytest.mark.parametrize(
    "fault",
    [
        lambda batch: batch["logits"].sum().item(),
        lambda batch: bool(batch["logits"].sum() > 0),
        lambda batch: batch["logits"][batch["target"] > 0],
        lambda batch: batch["target"].bincount(),
        lambda batch: batch["logits"] + torch.ones(len(batch["logits"]), 3),
        lambda batch: torch.cat([batch["logits"], torch.ones(1, 3)]),
    ],
    ids=["item", "bool", "mask", "bincount", "add", "cat"],
)
def test_a_read_and_a_second_device_are_errors(tmp_path, fault):
    with pytest.raises(Exception, match=r"aten\.|device") as caught:
        classify(tmp_path, "valid", [probe(lambda runner: fault(runner.batch))])
    assert isinstance(caught.value, DataDependentOutputException | RuntimeError)
