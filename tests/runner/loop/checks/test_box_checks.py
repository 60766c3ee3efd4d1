"""Wrong boxes are named with their sample before one of torchvision's detectors sees them."""

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator

from assay.callbacks import UsageError
from assay.runner.loop.checks.box_checks import Labels, check_boxes, detector_labels
from assay.runner.loop.checks.target_checks import TargetChecks

KNOWN = Labels(1, 3)
NAN, INF = float("nan"), float("inf")


def batch(boxes, labels=(1,)):
    boxes = torch.tensor(boxes, dtype=torch.float32) if isinstance(boxes, list) else boxes
    labels = torch.tensor(labels, dtype=torch.int64) if isinstance(labels, list | tuple) else labels
    good = {"boxes": torch.tensor([[0.0, 0.0, 5.0, 5.0]]), "labels": torch.tensor([2])}
    return {
        "image": [torch.zeros(3, 20, 30), torch.zeros(3, 20, 30)],
        "target": [good, {"boxes": boxes, "labels": labels}],
        "sample_id": ["cell-1", "cell-2"],
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (batch([[9, 2, 3, 8]]), r"holds the box \[9, 2, 3, 8\], and boxes are left, top, right, bottom, with"),
        (batch([[1, 2, 3, 4], [5, 9, 7, 9]], [1, 1]), r"holds the box \[5, 9, 7, 9\]"),
        (batch([[1, NAN, 3, 4]]), r"holds the box \[1, nan, 3, 4\]"),
        (batch([[1, 2, INF, 4]]), r"holds the box \[1, 2, inf, 4\]"),
        (batch([[31, 2, 40, 9]]), r"holds the box \[31, 2, 40, 9\], which is outside of its image of 30 x 20 pixels"),
        (batch(torch.zeros(0), []), r"boxes of shape \[0\], and \[M, 4\] is needed: .* torch.zeros\(0, 4\)"),
        (batch(torch.zeros(4)), r"boxes of shape \[4\], and \[M, 4\] is needed\."),
        (batch(torch.ones(1, 4).long()), r"boxes of torch.int64, and floating point is needed: .float\(\)"),
        (batch([[1, 2, 3, 4]], [1, 2]), r"labels \[2\] of torch.int64, and \[1\] of torch.int64 is needed"),
        (batch([[1, 2, 3, 4]], torch.ones(1)), r"labels \[1\] of torch.float32, and \[1\] of torch.int64"),
        (batch([[1, 2, 3, 4]], [0]), "holds the label 0, and the detector takes labels from 1 to 3, as 0 is"),
        (batch([[1, 2, 3, 4]], [4]), "holds the label 4, and the detector takes labels from 1 to 3"),
        (batch([[1, 2, 3, 4]], None), "needs 'boxes' and 'labels' as tensors, got Tensor and NoneType"),
    ],
)  # fmt: skip
def test_a_wrong_box_or_label_is_named_with_its_sample(given, message):
    with pytest.raises(UsageError, match=f"^loader 'train', sample_id 'cell-2': 'target' .*{message}"):
        check_boxes(given, KNOWN, "loader 'train'")


def test_boxes_that_are_right_pass_and_those_at_the_edge_too():
    check_boxes(batch([[1, 2, 3, 4], [-2, -2, 31, 21]], [1, 3]), KNOWN, "loader 'train'")
    check_boxes(batch(torch.zeros(0, 4), []), KNOWN, "loader 'train'")


def test_boxes_of_a_type_that_the_detector_does_not_take_are_named():
    given = batch(torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64))
    check_boxes(given, KNOWN, "loader 'train'")
    taken = Labels(0, 3, torch.float32)
    check_boxes(batch([[1, 2, 3, 4]]), taken, "loader 'train'")
    with pytest.raises(UsageError, match=r"boxes of torch.float64, and this detector takes only torch.float32: .to\("):
        check_boxes({**given, "target": given["target"][1:]}, taken, "loader 'train'")


def backbone():
    body = nn.Sequential(nn.Conv2d(3, 32, 3, 8, 1))
    body.out_channels = 32
    return body


def ssd():
    body = backbone()
    body.out_channels = [32]
    return detection.ssd.SSD(body, DefaultBoxGenerator([[2]]), (32, 32), 5)


ANCHORS = {"anchor_generator": AnchorGenerator(((8,),), ((1.0,),))}


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (lambda: detection.FasterRCNN(backbone(), 5, rpn_anchor_generator=AnchorGenerator(((8,),), ((1.0,),))), (1, 4)),
        (ssd, (1, 4)),
        (lambda: detection.RetinaNet(backbone(), 5, **ANCHORS), (0, 4)),
        (lambda: detection.FCOS(backbone(), 5, **ANCHORS), (0, 4, torch.float32)),
    ],
    ids=["FasterRCNN", "SSD", "RetinaNet", "FCOS"],
)
def test_the_labels_of_a_detector_are_found_within_any_module(make, labels):
    assert detector_labels([nn.Linear(1, 1), nn.Sequential(nn.ReLU(), make())]) == Labels(*labels)


def test_a_model_that_is_no_detector_of_torchvision_may_have_boxes_of_another_form():
    assert detector_labels([nn.Linear(1, 1)]) is None
    checks = TargetChecks()
    centred = {"target": [{"boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2]]), "labels": torch.tensor([0])}]}
    checks.take([], centred, "train")
    checks.check_boxes(nn.Linear(1, 1))
