"""Every diagnostic and the runner's own step on CUDA tensors, on a machine without a GPU.

An operation on tensors of two devices, and a value that the host reads, are errors here as they would be on a GPU,
where the second is a wait. ``tests/test_cuda_syncs.py`` does it on a real one.
"""

import inspect
from functools import partial

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
from torch.utils.data import DataLoader

from assay import callbacks
from assay.callbacks import (
    BestWorstBatches,
    BestWorstSamples,
    ConfusionMatrix,
    FixedSamples,
    NonFiniteGuard,
    PseudoLabels,
    RandomSamples,
)
from assay.callbacks.base.diagnostic import Diagnostic
from assay.runner import LossTerm
from benchmarks.fake_cuda import CUDA, STEPS, FakeEngine, FakeRunner, StepsAreDoneError, fake_cuda

OF_BOXES = ("BoxConfusion", "BoxCurves", "BoxMetrics")
EXPORTED = sorted(
    name
    for name in callbacks.__all__
    if inspect.isclass(getattr(callbacks, name)) and issubclass(getattr(callbacks, name), dl.Callback)
    if name not in (*OF_BOXES, "PseudoLabels")  # which is of a data set of its own
)
OPTIONS = {"GradientStats": {"every_n_steps": 1, "per_parameter": True, "update_ratio": True}}


def run(folder, key, make_model, batches, criterion, given, **options):
    """Make the first steps of one loader on a GPU that is not there, and return the runner."""
    with fake_cuda() as mode:
        with mode, torch.device("cuda"):
            model = make_model()
        batches = batches(mode) if callable(batches) else batches
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
        with mode:
            settle(runner, given)
    return runner


def settle(runner, given):
    """Do what waits for more batches or for the loader's end, and reads nothing."""
    for callback in given:
        if isinstance(callback, Diagnostic):
            callback.settle(runner)
        state = getattr(getattr(callback, "measure_", None), "state", {})
        assert all(value.device in (CUDA, torch.device("cpu")) for value in state.values())


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
@pytest.mark.parametrize(
    "given",
    [
        [FixedSamples, RandomSamples],
        *([getattr(callbacks, name)] for name in OF_BOXES),
    ],
    ids=["samples", *OF_BOXES],
)
def test_every_callback_of_boxes_observes_a_gpu(tmp_path, given, key):
    options = {"task": "detection"} if len(given) > 1 else {}
    detect(tmp_path, key, [kind(class_names=["none", "cat"], **options) for kind in given])


def detect(folder, key, given):
    return run(folder, key, Detector, loaders(boxes, collate_fn=stack_but_boxes), box_loss, given)


class Labelled(list):
    def set_target(self, index, target): ...


@pytest.mark.parametrize(("task", "outputs"), [("multiclass", 3), ("binary", 1), ("multilabel", 3)])
def test_pseudo_labels_observe_a_gpu(tmp_path, task, outputs):
    train = loaders(classes)["train"]
    items = Labelled(train.dataset)
    batches = {"infer": DataLoader(items, batch_size=4), "train": train}
    given = PseudoLabels(items, task=task)
    run(tmp_path, "infer", lambda: Heads(outputs), batches, nn.CrossEntropyLoss(), [given])
    assert [first for first, *_ in given.seen_] == [0, 4, 8, 12][: len(given.seen_)]
    assert len(given.seen_) >= STEPS - 1


class Heads(Classifier):
    def __init__(self, outputs):
        super().__init__()
        self.head = nn.Linear(144, outputs)


def shares(i, noise):
    return torch.rand(3, generator=noise).softmax(dim=0)


def labels(i, noise):
    return torch.randint(0, 2, (3,), generator=noise).float()


def label_masks(i, noise):
    return torch.randint(0, 2, (3, 8, 8), generator=noise).float()


def map_of_numbers(i, noise):
    return torch.rand(1, 8, 8, generator=noise)


def yes_or_no(output, target):
    counted = target < 2
    losses = nn.functional.binary_cross_entropy_with_logits(output[:, 0], target.float(), reduction="none")
    return (losses * counted).sum() / counted.sum()


BINARY = {"class_names": ["no", "yes"], "ignore_index": 2}
# Preset, task, model, target, criterion, and options of the preset.
PRESETS = [
    ("classification", "multiclass", partial(Heads, 3), classes, nn.CrossEntropyLoss(), {"class_names": CLASSES}),
    ("classification", "multiclass", partial(Heads, 3), shares, nn.CrossEntropyLoss(), {"class_names": CLASSES}),
    ("classification", "binary", partial(Heads, 1), classes, yes_or_no, BINARY),
    ("classification", "multilabel", partial(Heads, 3), labels, nn.BCEWithLogitsLoss(), {"class_names": CLASSES}),
    ("segmentation", "multiclass", partial(Segmenter, 3), masks, nn.CrossEntropyLoss(), {"class_names": CLASSES}),
    ("segmentation", "binary", partial(Segmenter, 1), masks, yes_or_no, BINARY),
    ("segmentation", "multilabel", partial(Segmenter, 3), label_masks, nn.BCEWithLogitsLoss(), {"num_classes": 3}),
    ("detection", None, Detector, boxes, box_loss, {"class_names": ["none", "cat"]}),
    ("regression", None, partial(Heads, 3), labels, nn.MSELoss(), {}),
    ("regression", None, partial(Segmenter, 1), map_of_numbers, nn.L1Loss(), {}),
]


@pytest.mark.parametrize("key", ["train", "valid"])
@pytest.mark.parametrize("row", PRESETS, ids=lambda row: f"{row[0]}-{row[1]}-{row[3].__name__}")
def test_every_preset_observes_a_gpu(tmp_path, row, key):
    preset, task, model, make_target, criterion, options = row
    options = {**options, "gradients_every_n_steps": 1, "k_samples": 4}
    options |= {} if task is None else {"task": task}
    given = getattr(callbacks, f"{preset}_diagnostics")("full", **options)
    batches = loaders(make_target, collate_fn=stack_but_boxes if preset == "detection" else None)
    run(tmp_path, key, model, batches, criterion, given)


def test_every_exported_preset_is_among_them():
    exported = {name for name in callbacks.__all__ if name.endswith("_diagnostics")}
    assert {f"{row[0]}_diagnostics" for row in PRESETS} == exported


def one_buffer(mode):
    """Return a loader on the GPU that writes every batch into the same memory."""
    with mode, torch.device("cuda"):
        batch = {"image": torch.zeros(4, 3, 8, 8), "target": torch.zeros(4, dtype=torch.int64)}
    return {"valid": DataLoader(range(40), batch_size=4, collate_fn=lambda items: dict(batch))}


def test_targets_in_memory_that_a_loader_on_the_gpu_reuses_are_copied(tmp_path):
    matrix, kept = ConfusionMatrix(class_names=CLASSES), []
    given = [matrix, probe(lambda runner: kept.append(matrix.waiting_[-1][1]))]
    run(tmp_path, "valid", partial(Heads, 3), one_buffer, nn.CrossEntropyLoss(), given)
    assert len({target.untyped_storage()._cdata for target in kept}) == STEPS


@pytest.mark.parametrize(
    ("given", "kept_part"),
    [
        (BestWorstSamples, lambda callback: callback.pending_.args[4]),
        (BestWorstBatches, lambda callback: callback.pending_.args[2].args[2]),
        (NonFiniteGuard, lambda callback: callback.pending_.inputs),
    ],
    ids=["samples", "batches", "guard"],
)
def test_what_is_kept_of_a_batch_in_memory_that_a_loader_on_the_gpu_reuses_is_copied(given, kept_part, tmp_path):
    callback, kept = given(), []
    run(
        tmp_path, "valid", partial(Heads, 3), one_buffer, nn.CrossEntropyLoss(),
        [callback, probe(lambda runner: kept.extend(kept_part(callback)[key] for key in ("image", "target")))],
    )  # fmt: skip
    assert len({part.untyped_storage()._cdata for part in kept}) == 2 * STEPS


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
