"""Every number on the GPU is that of the CPU: of each exported callback, each task and each measure."""

import pytest
import torch
from gpu_runs import CRITERION, DEVICE, LOSSES, make_callback, needs_gpu, scalars, train
from measure_cases import CASES, to
from test_fake_cuda import EXPORTED
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
from torch.utils.data import DataLoader

from assay.callbacks import (
    PseudoLabels,
    classification_diagnostics,
    detection_diagnostics,
    regression_diagnostics,
    segmentation_diagnostics,
)
from assay.callbacks.measures.binned_scores import BinnedScores
from assay.callbacks.measures.class_metric import ClassTotals
from assay.callbacks.measures.confusion_matrix import ConfusionMatrix
from assay.callbacks.measures.regression import RegressionTotals
from assay.callbacks.measures.weighted_auc import WeightedAUC
from assay.runner import LossTerm

pytestmark = needs_gpu


def assert_same_numbers(tmp_path, run):
    runs = {}
    for name, device in (("cpu", "cpu"), ("device", DEVICE)):
        runner = run(tmp_path / name, device)
        runs[name] = runner.history, scalars(tmp_path / name)
    (history, points), (expected_history, expected) = runs["device"], runs["cpu"]
    assert history.keys() == expected_history.keys()
    for epoch, by_loader in expected_history.items():
        for loader, metrics in by_loader.items():
            assert history[epoch][loader] == pytest.approx(metrics, rel=1e-3, abs=1e-4, nan_ok=True)
    assert points.keys() == expected.keys()
    for tag, values in expected.items():
        assert points[tag] == pytest.approx(values, rel=2e-3, abs=1e-4, nan_ok=True), tag


@pytest.mark.parametrize("name", EXPORTED)
def test_every_callback_gives_the_numbers_of_the_cpu(tmp_path, name):
    def run(folder, device):
        options = {"losses": LOSSES, "accumulate_steps": 2, "clip_grad_norm": 1.0}
        return train(folder, device, Classifier, loaders(classes), CRITERION, [make_callback(name)], **options)

    assert_same_numbers(tmp_path, run)


class Labelled(list):
    """Items that are given labels."""

    def __init__(self, items):
        super().__init__(items)
        self.labels = {}

    def __getitem__(self, index):
        return self if isinstance(index, slice) else super().__getitem__(index)

    def set_target(self, index, target):
        self.labels[index] = target


def test_pseudo_labels_are_those_of_the_cpu(tmp_path):
    given = {}
    for name, device in (("cpu", "cpu"), ("device", DEVICE)):
        batches = loaders(classes)
        data = Labelled(batches["train"].dataset)
        batches["infer"] = DataLoader(data, batch_size=4)
        callback = PseudoLabels(data, min_probability=0.5)
        train(tmp_path / name, device, Classifier, batches, CRITERION, [callback], losses=LOSSES)
        given[name] = data.labels
    assert given["device"] == given["cpu"]
    assert len(set(given["cpu"].values())) > 1


def binary_loss(output, target):
    return nn.functional.binary_cross_entropy_with_logits(output[:, 0], (target == 1).float())


def yes_or_no(i, noise):
    return i % 2


def labels(i, noise):
    return torch.tensor([i % 2, i % 3 == 0, 1.0])


def classifier_task():
    given = classification_diagnostics("full", class_names=CLASSES)
    return Classifier, loaders(classes), CRITERION, given, {"losses": LOSSES}


def binary_task():
    given = classification_diagnostics("full", task="binary", output_key="size")
    return Classifier, loaders(yes_or_no), binary_loss, given, {"losses": [LossTerm("size", "target")]}


def label_task():
    given = classification_diagnostics("full", task="multilabel", class_names=CLASSES)
    return Classifier, loaders(labels), nn.BCEWithLogitsLoss(), given, {}


def number_task():
    keys = {"output_key": "size", "target_key": "true_size"}
    given = regression_diagnostics("full", **keys)
    return Classifier, loaders(classes), nn.MSELoss(), given, {"losses": [LossTerm("size", "true_size")]}


def mask_task():
    given = segmentation_diagnostics("full", class_names=CLASSES, k_samples=4)
    return (lambda: Segmenter(3)), loaders(masks), nn.CrossEntropyLoss(), given, {}


def binary_mask_task():
    given = segmentation_diagnostics("full", task="binary", class_names=["no", "yes"], ignore_index=2, k_samples=4)
    return (lambda: Segmenter(1)), loaders(masks), binary_loss, given, {}


def box_task():
    given = detection_diagnostics("full", class_names=["none", "cat"])
    return Detector, loaders(boxes, collate_fn=stack_but_boxes), box_loss, given, {}


TASKS = [classifier_task, binary_task, label_task, number_task, mask_task, binary_mask_task, box_task]


@pytest.mark.parametrize("task", TASKS)
def test_the_diagnostics_of_every_task_give_the_numbers_of_the_cpu(tmp_path, task):
    def run(folder, device):
        model, batches, criterion, given, options = task()
        return train(folder, device, model, batches, criterion, given, **options)

    assert_same_numbers(tmp_path, run)


def numbers(high, *shape):
    return torch.randint(high, shape)


MEASURES = {
    **CASES,
    "BinnedScores-binary": (
        lambda on: BinnedScores("binary", 1, 64, device=on),
        lambda: (torch.randn(64), numbers(2, 64)),
    ),
    "BinnedScores-pixels": (
        lambda on: BinnedScores("multiclass", 3, 64, ignore_index=2, device=on),
        lambda: (torch.randn(4, 3, 8, 8), numbers(3, 4, 8, 8)),
    ),
    "ClassTotals-labels": (
        lambda on: ClassTotals("multilabel", 5, device=on),
        lambda: (numbers(2, 64, 5), numbers(2, 64, 5)),
    ),
    "ConfusionMatrix-labels": (
        lambda on: ConfusionMatrix(3, 2, device=on),
        lambda: (numbers(2, 64, 3), numbers(2, 64, 3)),
    ),
    "RegressionTotals": (lambda on: RegressionTotals(device=on), lambda: (torch.randn(64, 3), torch.randn(64, 3))),
}


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_counts_as_on_the_cpu_and_waits_for_nothing(name):
    make, arguments = MEASURES[name]
    torch.manual_seed(0)
    batches = [list(arguments()) for _ in range(3)]
    found, expected = make(DEVICE), make("cpu")
    on_device = [to(DEVICE, batch) for batch in batches]
    for batch, moved in zip(batches, on_device, strict=True):
        expected.update(*batch)
        if DEVICE == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            found.update(*moved)
        finally:
            if DEVICE == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    assert found.state.keys() == expected.state.keys()
    for key, value in expected.state.items():
        assert found.state[key].device.type == DEVICE
        assert_close(found.state[key].cpu(), value)


def assert_close(found, expected):
    assert found.dtype == expected.dtype
    if found.is_floating_point():
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    elif found.ndim:  # a score that is rounded otherwise may fall into the bin beside its own
        assert (found.cumsum(-1) - expected.cumsum(-1)).abs().max() <= 2
    else:
        assert found == expected


def test_the_weighted_auc_is_that_of_the_cpu():
    torch.manual_seed(0)
    output, target = torch.randn(500), numbers(2, 500)
    areas = []
    for device in ("cpu", DEVICE):
        measure = WeightedAUC().to(device)
        measure.update(output.to(device), target.to(device))
        areas.append(measure.compute().item())
    assert areas[1] == pytest.approx(areas[0], abs=1e-4)
