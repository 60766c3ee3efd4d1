"""Rules on boxes: each names its fault, and is silent on its healthy twins."""

from dataclasses import replace

import numpy as np
import pytest
from made_probes import found, healthy
from made_scenes import make_scene, with_boxes

from assay.callbacks.findings.probe.model_probe import ModelProbe, ParameterProbe
from assay.callbacks.findings.probe.settings_probe import CriterionProbe, MetricProbe, SettingsProbe, TermProbe
from assay.callbacks.findings.rules.boxes.box_format import box_format
from assay.callbacks.findings.rules.boxes.box_labels import box_labels
from assay.callbacks.findings.rules.boxes.box_labels_from_zero import box_labels_from_zero
from assay.callbacks.findings.rules.boxes.box_scale import box_scale
from assay.callbacks.findings.rules.boxes.boxes_not_following import boxes_not_following
from assay.callbacks.findings.rules.boxes.boxes_outside import boxes_outside
from assay.callbacks.findings.rules.boxes.duplicate_boxes import duplicate_boxes
from assay.callbacks.findings.rules.boxes.empty_boxes import empty_boxes
from assay.callbacks.findings.rules.boxes.exchanged_axes import exchanged_axes
from assay.callbacks.findings.rules.boxes.exchanged_box_classes import exchanged_box_classes
from assay.callbacks.findings.rules.boxes.missing_boxes import missing_boxes
from assay.callbacks.findings.rules.boxes.normalized_boxes import normalized_boxes

ALL = [
    box_format, box_labels, box_scale, boxes_not_following, boxes_outside, duplicate_boxes, empty_boxes, exchanged_axes,
    missing_boxes, normalized_boxes, exchanged_box_classes,
]  # fmt: skip
NAMES = ("background", "cell", "dust", "hair")
SETTINGS = SettingsProbe(metrics=(MetricProbe("BoxMetrics"),), class_names=NAMES, num_classes=4, task="detection")


def told(rule, probe):
    return [finding.what for finding in found(rule, probe)]


def on_boxes(form):
    """Return a change of a scene's boxes alone."""
    return lambda image, boxes, labels, _: (image, form(boxes), labels)


def sized(boxes):
    return np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]])


def centered(boxes):
    return np.column_stack([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]])


def taken_for_sizes(boxes):
    return np.column_stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])


def flipped(boxes):
    return np.column_stack([96 - boxes[:, 2], boxes[:, 1], 96 - boxes[:, 0], boxes[:, 3]])


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (sized, "x, y, width, height"),
        (centered, "center x, center y, width, height"),
        (taken_for_sizes, "corners that were taken for sizes"),
        (lambda boxes: boxes[:, [2, 3, 0, 1]], "x2, y2, x1, y1"),
        (lambda boxes: boxes[:, [0, 2, 1, 3]], "x1, x2, y1, y2"),
    ],
)
def test_box_format_names_the_form(form, name):
    (what,) = told(box_format, with_boxes(on_boxes(form), things=8))
    assert "boxes of train seem to be " in what
    assert f"{name}, not x1, y1, x2, y2" in what
    assert "while those of valid are x1, y1, x2, y2" in what
    both = with_boxes(on_boxes(form), on_boxes(form), things=8)
    # Another project may want them so.
    assert told(box_format, both) == []
    assert len(told(box_format, replace(both, settings=SETTINGS))) == 2


def test_normalized_boxes_names_what_they_reach():
    (what,) = told(normalized_boxes, with_boxes(on_boxes(lambda boxes: boxes / 96)))
    assert "boxes of train are normalized" in what
    both = with_boxes(*[on_boxes(lambda boxes: centered(boxes) / 96)] * 2)
    assert told(normalized_boxes, both) == []
    assert len(told(normalized_boxes, replace(both, settings=SETTINGS))) == 2


def test_exchanged_axes_names_them():
    exchanged = on_boxes(lambda boxes: boxes[:, [1, 0, 3, 2]])
    (what,) = told(exchanged_axes, with_boxes(exchanged, height=96, width=160))
    assert "x and y are exchanged in boxes of train" in what
    assert told(box_format, with_boxes(exchanged, height=96, width=160)) == []


def test_boxes_outside_names_the_scale_and_box_scale_the_factor():
    (what,) = told(boxes_outside, with_boxes(on_boxes(lambda boxes: 2 * boxes), things=8))
    assert "boxes of train reach beyond their images, as if they were of images 2.0 times as large" in what
    (what,) = told(boxes_outside, with_boxes(on_boxes(lambda boxes: boxes + np.array([30, 0, 30, 0])), things=8))
    assert "boxes of train reach beyond their images" in what
    (what,) = told(box_scale, with_boxes(on_boxes(lambda boxes: boxes / 2), things=8))
    assert "boxes of train lie in the upper left part of their images, as if these were 2" in what


def test_empty_boxes_names_the_samples():
    def emptied(image, boxes, labels, index):
        return (image, boxes[:, [0, 1, 0, 3]], labels) if index == 3 else (image, boxes, labels)

    (finding,) = found(empty_boxes, with_boxes(emptied))
    assert "of train have no width or no height, in '3'" in finding.what


def test_missing_boxes_names_loaders_with_few():
    none = with_boxes(lambda image, boxes, labels, _: (image, boxes[:0], labels[:0]))
    assert "none of the 40 images of train has a box" in told(missing_boxes, none)[0]
    few = with_boxes(lambda image, boxes, labels, index: (image, boxes[: index % 4 == 0], labels[: index % 4 == 0]))
    assert "75% of the images of train have no box, against 0% in valid" in told(missing_boxes, few)[0]
    single = with_boxes(lambda image, boxes, labels, _: (image, boxes[:1], labels[:1]))
    assert "no image of train has more than one box" in told(missing_boxes, single)[0]


def test_box_labels_names_background_and_what_is_no_class():
    def from_zero(image, boxes, labels, _):
        return image, boxes, labels - 1

    (what,) = told(box_labels, with_boxes(from_zero, settings=SETTINGS))
    assert "boxes of train have label 0, which is 'background'" in what
    term = TermProbe("loss_classifier", "loss_classifier", "target", 1.0, CriterionProbe("ModelLoss"))
    both = with_boxes(from_zero, from_zero, settings=SettingsProbe(terms=(term,)))
    assert "which is the background for this detector" in told(box_labels, both)[0]
    assert "while those of valid count from 1" in told(box_labels, with_boxes(from_zero))[0]
    beyond = with_boxes(lambda image, boxes, labels, _: (image, boxes, labels + 1), settings=SETTINGS)
    assert "have labels up to 4, and there are 4 classes, from 0 to 3" in told(box_labels, beyond)[0]


def detector(probe, classes, loss="loss"):
    """Return a probe with a detector that tells so many classes apart."""
    shapes = {
        "body.0.weight": (16, 3, 3, 3),
        "head.cls_logits.weight": (classes, 16, 3, 3),
        "head.boxes.weight": (4, 16),
    }
    term = TermProbe(loss, loss, "target", 1.0, CriterionProbe("ModelLoss"))
    model = ModelProbe(parameters=tuple(ParameterProbe(name, shape) for name, shape in shapes.items()))
    return replace(probe, model=model, settings=SettingsProbe(terms=(term,)))


def test_box_labels_from_zero_names_the_layer_with_one_class_more():
    probe = with_boxes(*[lambda image, boxes, labels, _: (image, boxes, labels - 1)] * 2)
    (finding,) = found(box_labels_from_zero, detector(probe, 4, "loss_classification"))
    assert finding.severity == "warning"
    assert (
        "labels of boxes of train and valid are 0 to 2, while layer 'head.cls_logits' tells 4 classes" in finding.what
    )
    assert "label 0 (" in finding.what and "is the background for a detector" in finding.what
    # The last output may be the background.
    assert [it.severity for it in found(box_labels_from_zero, detector(probe, 4))] == ["note"]
    assert found(box_labels_from_zero, detector(probe, 3)) == ()
    assert found(box_labels_from_zero, detector(with_boxes(), 4)) == ()


def test_exchanged_box_classes_names_both_labels():
    def turned(image, boxes, labels, _):
        return image, boxes, np.where(labels == 2, 3, np.where(labels == 3, 2, labels))

    probe = with_boxes(valid=turned, things=2, settings=SETTINGS)
    (what,) = told(exchanged_box_classes, probe)
    assert "classes 2 ('dust') and 3 ('hair') of boxes are exchanged between train and valid" in what
    assert told(exchanged_box_classes, with_boxes(turned, turned, things=2)) == []


def test_duplicate_boxes_names_how_many():
    def doubled(image, boxes, labels, _):
        return image, np.repeat(boxes, 2, axis=0), np.repeat(labels, 2)

    assert "boxes of train are there twice in their image" in told(duplicate_boxes, with_boxes(doubled))[0]


@pytest.mark.parametrize(
    ("change", "move"),
    [
        (on_boxes(flipped), "when flipped left to right"),
        (on_boxes(lambda boxes: boxes[:, [1, 0, 3, 2]]), "with rows and columns exchanged"),
        (on_boxes(lambda boxes: boxes + np.array([8, 0, 8, 0])), "when moved by 8 pixels to the left"),
        (lambda image, _, labels, index: (image, make_scene(index + 1, classes=4)[2], labels), "the sample after"),
        (lambda image, _, labels, index: (image, make_scene(index + 999)[2], labels), "they are of other images"),
        (
            lambda image, boxes, labels, index: (image, flipped(boxes) if index % 2 else boxes, labels),
            "fit only when flipped left to right",
        ),
    ],
)
def test_boxes_not_following_names_what_would_align_them(change, move):
    (what,) = told(boxes_not_following, with_boxes(change))
    assert "boxes of train do not follow the images" in what
    assert move in what


def noisy(image, boxes, labels, index):
    return image + np.random.default_rng(index).normal(0, 0.7, image.shape).astype(np.float32), boxes, labels


def cropped(image, boxes, labels, index):
    """Return the lower right part of a scene, and the boxes in it as they are cut."""
    boxes = boxes - [20, 20, 20, 20]
    kept = (boxes[:, 2:] > 8).all(1)
    return image[:, 20:, 20:], np.maximum(boxes[kept], 0), labels[kept]


def unclipped(image, boxes, labels, index):
    boxes = boxes - [10, 10, 10, 10]
    kept = (boxes[:, 2:] > 8).all(1)
    return image[:, 10:, 10:], boxes[kept], labels[kept]


def some_without(image, boxes, labels, index):
    return (image, boxes, labels) if index % 2 else (image, boxes[:0], labels[:0])


# Healthy probes, by what makes them unlike each other; a test makes its own.
STRANGERS = {
    "easy": lambda: with_boxes(settings=SETTINGS),
    "few": lambda: with_boxes(counts=(5, 4)),
    "crowded": lambda: with_boxes(things=40, least=5, height=160, width=200, settings=SETTINGS),
    "faint": lambda: with_boxes(contrast=0.15),
    "noise in training": lambda: with_boxes(noisy),
    "cropped training": lambda: with_boxes(cropped, things=8),
    "not clipped": lambda: with_boxes(unclipped, unclipped),
    "half without boxes": lambda: with_boxes(some_without, some_without),
    "one class": lambda: with_boxes(classes=2, settings=replace(SETTINGS, class_names=NAMES[:2], num_classes=2)),
    "labels from 0": lambda: with_boxes(*[lambda image, boxes, labels, _: (image, boxes, labels - 1)] * 2),
    "one thing each": lambda: with_boxes(things=1),
    "shares as in DETR": lambda: with_boxes(*[on_boxes(lambda boxes: centered(boxes) / 96)] * 2),
    "drawn wider": lambda: with_boxes(*[on_boxes(lambda boxes: np.clip(boxes + np.array([-3, -3, 3, 3]), 0, 96))] * 2),
    "flipped together": lambda: with_boxes(lambda i, b, labels, _: (i[:, :, ::-1], flipped(b), labels)),
    "no boxes": healthy,
}


@pytest.mark.parametrize("name", STRANGERS)
def test_rules_on_boxes_are_silent_on_healthy_data(name):
    assert [finding.sentence for rule in ALL for finding in found(rule, STRANGERS[name]())] == []
