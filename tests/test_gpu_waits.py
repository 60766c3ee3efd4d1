"""Where torch's loss scaler and torchvision's detectors wait for the GPU themselves, diagnostics add no wait.

On a GPU torch counts the waits, on a CPU ``HostReads`` counts what would wait.
"""

import warnings
from collections import Counter

import pytest
import torch
from gpu_runs import CRITERION, DEVICE, LOSSES, ON_GPU, few, needs_gpu
from host_reads import CountsSteps, HostReads
from kit import fit
from test_host_reads import CLASSES, Classifier, boxes, classes, everything_else, loaders, stack_but_boxes

from assay.callbacks import NonFiniteGuard, classification_diagnostics, detection_diagnostics
from assay.experiments.detectors import DETECTIONS, loss_terms, make_detector
from assay.runner import DictRunner, Engine

pytestmark = [*needs_gpu, pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")]


class Waits:
    """Counts, while it is entered, what torch warns of."""

    def __init__(self):
        self.seen = Counter()

    def __enter__(self):
        self.caught = warnings.catch_warnings(record=True)
        self.warnings = self.caught.__enter__()
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")

    def __exit__(self, *error):
        torch.cuda.set_sync_debug_mode("default")
        self.caught.__exit__(*error)
        self.seen["waits"] = sum("called a synchronizing CUDA" in str(one.message) for one in self.warnings)


class Counting(CountsSteps, DictRunner):
    make_mode = Waits if ON_GPU else HostReads


def make_scaled_engine():
    """Return an engine that scales the loss: accelerate's own on a GPU, where there is fp16."""
    engine = Engine(DEVICE, "fp16" if ON_GPU else "fp32")
    if not ON_GPU:
        engine.scaler = torch.amp.GradScaler("cpu")
    return engine


def count(runner, model, batches, criterion, callbacks, folder, engine):
    torch.manual_seed(0)
    net = model()
    fit(
        runner, net, few(batches), callbacks, engine=engine, criterion=criterion, hparams={"lr": 0.0},
        optimizer=torch.optim.SGD(net.parameters(), lr=0.0, momentum=0.9), logdir=str(folder),
    )  # fmt: skip
    assert len(runner.steps) == sum(map(len, few(batches).values()))
    return runner.steps


def test_a_step_with_a_loss_scaler_waits_as_often_with_diagnostics(tmp_path):
    full = classification_diagnostics("full", class_names=CLASSES, gradients_every_n_steps=1)
    # ``NonFiniteGuard`` reads once per step by design where the optimizer is not fused.
    full += [one for one in everything_else(tmp_path) if not isinstance(one, NonFiniteGuard)]
    on, off = (
        count(
            Counting(losses=LOSSES, clip_grad_norm=1.0, accumulate_steps=2), Classifier, loaders(classes), CRITERION,
            given, tmp_path / name, make_scaled_engine(),
        )
        for name, given in (("on", full), ("off", []))
    )  # fmt: skip
    assert on == off
    assert sum(off, Counter())  # the scaler's own


def make_fcos():
    return make_detector("fcos", "light", image_size=32, channels=32, num_classes=2)


def test_a_step_of_a_torchvision_detector_waits_as_often_with_diagnostics(tmp_path):
    full = detection_diagnostics("full", class_names=["none", "cat"], output_key=DETECTIONS, gradients_every_n_steps=1)
    on, off = (
        count(
            Counting(input_key=("image", "target"), losses=loss_terms("fcos")), make_fcos,
            loaders(boxes, collate_fn=stack_but_boxes), None, given, tmp_path / name, Engine(DEVICE),
        )
        for name, given in (("on", full), ("off", []))
    )  # fmt: skip
    assert on == off
    assert all(sum(step.values()) for step in off)  # torchvision's own
