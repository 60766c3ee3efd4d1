"""The verdict on a run that was to learn a few batches by heart: by which figures, and of which classes."""

import math

import pytest
import torch
from torch.utils.data import DataLoader

from assay.callbacks import Metrics
from assay.runner.recipe.monitor import Monitor
from assay.runner.recipe.overfit_verdict import Classes, classes_in, overfit_verdict


def history(losses, train=(), valid=()):
    epochs = {n: {"train": {"loss": loss}, "valid": {"loss": loss}} for n, loss in enumerate(losses, 1)}
    for key, values in (("train", train), ("valid", valid)):
        for number, value in enumerate(values, 1):
            epochs[number][key]["iou"] = value
    return epochs


IOU, LOSS = Monitor("valid", "iou", False), Monitor("valid", "loss", True)


@pytest.mark.parametrize(
    ("of", "monitor", "expected"),
    [
        (history([2.0, 0.5, 0.2]), LOSS, "yes: train/loss 2 at first and 0.2 at best, at most 0.2 is wanted"),
        (history([2.0, 0.1, 0.9]), LOSS, "yes: train/loss 2 at first and 0.1 at best"),
        (history([2.0, 0.5, 0.21]), LOSS, "no: train/loss 2 at first and 0.21 at best"),
        (history([math.nan, math.nan]), LOSS, "no: train/loss nan at first and nan at best"),
        (history([-1.0, -2.0]), LOSS, "no: train/loss -1 at first and -2 at best"),
        (
            history([2.0, 1.9], valid=[0.1, 0.95]),
            IOU,
            "yes: valid/iou 0.1 at first and 0.95 at best, at least 0.95 is wanted; train/loss 2 at first and 1.9 at b",
        ),
        (
            history([2.0, 0.0], valid=[0.1, 0.94]),
            IOU,
            "yes: train/loss 2 at first and 0 at best, at most 0.2 is wanted; valid",
        ),
        (history([2.0, 0.3], valid=[0.1, 0.94]), IOU, "no: valid/iou 0.1 at first and 0.94 at best"),
        (history([2.0, 0.5], [0.2, 0.99], [0.1, 0.3]), IOU, "yes: train/iou 0.2 at first and 0.99 at best"),
        (history([2.0, 0.5], [0.2, 0.3], [0.1, 0.99]), IOU, "yes: valid/iou 0.1 at first and 0.99 at best"),
        (history([2.0, 0.1], valid=[31.0, 33.0]), IOU, "yes: train/loss 2 at first and 0.1 at best"),
        (history([2.0, 0.3], valid=[math.nan, math.nan]), IOU, "no: train/loss 2 at first and 0.3 at best"),
    ],
)
def test_the_verdict_follows_from_the_figures(of, monitor, expected):
    assert overfit_verdict(of, monitor, 3).startswith(f"overfits 3 batches: {expected}")


F1 = Monitor("valid", "f1", False)


def of_f1(best):
    return {n: {"train": {"loss": 2.0, "f1": f1}, "valid": {"loss": 2.0, "f1": f1}} for n, f1 in ((1, 0.1), (2, best))}


def test_labels_that_are_not_in_the_batches_do_not_count():
    names = ["cat", "dog", "owl", "fox"]
    verdict = overfit_verdict(
        of_f1(0.75), F1, 2, Classes(names, [0, 1, 3], ["f1"])
    )  # f1 is 1 of three labels, 0 of owl
    assert verdict.startswith(
        "overfits 2 batches: yes: train/f1 (of the labels in the batches) 0.1333 at first and 1 at b"
    )
    assert verdict.endswith("; classes in the batches: 3 of 4 (cat, dog, fox)")
    assert overfit_verdict(of_f1(0.75), F1, 2, Classes(names, range(4), ["f1"])).startswith("overfits 2 batches: no: ")


def test_batches_of_one_class_tell_nothing():
    verdict = overfit_verdict(of_f1(1.0), F1, 2, Classes(["cat", "dog"], [1]))
    assert verdict.startswith("overfits 2 batches: cannot tell: ")
    assert "1 of 2 (dog), which a constant prediction fits: raise --overfit-batches" in verdict
    assert overfit_verdict(of_f1(0.5), F1, 2, Classes(["cat", "dog"], [1])).startswith("overfits 2 batches: no: ")
    assert overfit_verdict(of_f1(1.0), F1, 2, Classes(["cat", "dog"], [0, 1])).startswith("overfits 2 batches: yes: ")


def test_of_many_classes_some_are_named():
    assert str(Classes([str(i) for i in range(99)], range(20))) == (
        "classes in the batches: 20 of 99 (0, 1, 2, 3, 4, 5, 6, 7, ...)"
    )


@pytest.mark.parametrize(
    ("options", "targets", "present", "means"),
    [
        ({"num_classes": 5}, [3, 1, 1, 3], [1, 3], ()),
        ({"num_classes": 3, "ignore_index": 255}, torch.tensor([[[0, 255], [2, 0]]] * 4), [0, 2], ()),
        ({"num_classes": 3}, torch.tensor([[0.1, 0.9, 0.0]] * 4), [1], ()),
        ({"task": "binary"}, torch.tensor([0.0, 1.0, 0.0, 0.0]), [0, 1], ()),
        ({"task": "binary"}, torch.zeros(4, 1, 2, 2), [0], ()),
        ({"task": "multilabel", "num_classes": 3}, torch.tensor([[1, 0, 0], [0, 0, 1]] * 2), [0, 2], ["f1"]),
    ],
    ids=["numbers", "masks", "shares", "yes and no", "mask of no", "labels"],
)
def test_the_classes_are_those_of_the_targets(options, targets, present, means):
    loader = DataLoader([{"target": target} for target in targets], batch_size=2)
    found = classes_in(loader, [Metrics(["accuracy", "f1"], **options)])
    assert (list(found.present), list(found.means)) == (present, list(means))


def test_without_metrics_of_classes_or_without_targets_nothing_is_said_of_classes():
    loader = DataLoader([{"target": 1}, {"target": 0}], batch_size=2)
    assert classes_in(loader, []) is None
    assert classes_in(loader, [Metrics(target_key="label", num_classes=2)]) is None
