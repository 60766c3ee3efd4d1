import math

import pytest
import timm
import torch

from assay.callbacks import UsageError
from assay.experiments.detectors import _LIGHT_RESNET, LOSSES, ModelLoss, Pyramid, loss_terms, make_detector
from assay.runner import LossTerm

TARGETS = [
    {"boxes": torch.tensor([[8.0, 8.0, 40.0, 30.0], [20.0, 30.0, 60.0, 60.0]]), "labels": torch.tensor([1, 1])},
    {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
]


@pytest.mark.parametrize("name", LOSSES)
def test_a_detector_gives_its_losses_while_it_trains_and_detections_otherwise(name):
    torch.manual_seed(0)
    detector = make_detector(name, "light", image_size=64, channels=32, num_classes=2)
    images = torch.rand(2, 3, 64, 64)
    outputs = detector(images, TARGETS)
    terms = loss_terms(name)
    assert outputs.keys() == {term.output for term in terms} == {term.label for term in terms}
    loss = sum(term.compute(None, outputs) for term in terms)
    assert math.isfinite(loss)
    loss.backward()
    assert all(parameter.grad is not None for parameter in detector.parameters() if parameter.requires_grad)
    found = detector.eval()(images)
    assert found.keys() == {"detections"}
    assert [one.keys() for one in found["detections"]] == [{"boxes", "scores", "labels"}] * 2


def test_no_part_of_a_detector_is_frozen():
    detector = make_detector("fcos", "light", image_size=64, channels=32, num_classes=2)
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_boxes_are_in_pixels_of_the_image_that_is_given():
    torch.manual_seed(0)
    detector = make_detector("fcos", "light", image_size=64, channels=32, num_classes=2).eval()
    detector.net.score_thresh = 0.0
    with torch.no_grad():
        small, large = (detector([torch.ones(3, side, side) * 0.5])["detections"][0]["boxes"] for side in (64, 128))
    assert large.numpy() == pytest.approx(2 * small.numpy(), abs=1e-3)


@pytest.mark.parametrize("backbone", ["light", "resnet18"])
def test_a_backbone_gives_features_at_strides_8_and_16(backbone):
    pyramid = Pyramid(backbone, 32).eval()
    levels = pyramid(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape) for level in levels.values()] == [(1, 32, 8, 12), (1, 32, 4, 6)]
    assert pyramid.strides == [8, 16]


def test_an_unknown_backbone_is_named():
    with pytest.raises(UsageError, match=r"resnet81.*did you mean 'resnet"):
        Pyramid("resnet81", 32)


def test_a_loss_of_the_model_needs_no_criterion_and_no_target():
    term = ModelLoss(output="loss_box", name="loss_box", weight=2.0)
    assert isinstance(term, LossTerm)
    assert term.compute(None, {"loss_box": torch.tensor(3.0)}).item() == 3.0
    with pytest.raises(UsageError, match="asks for key 'loss_box'"):
        term.compute(None, {"logits": torch.zeros(1)})


@pytest.mark.parametrize("name", LOSSES)
def test_a_detector_has_as_many_classes_as_are_asked_for(name):
    detector = make_detector(name, "light", image_size=64, channels=32, num_classes=5).eval()
    detector.net.score_thresh = 0.0
    if name == "faster_rcnn":
        detector.net.roi_heads.score_thresh = 0.0
    with torch.no_grad():
        labels = detector(torch.rand(2, 3, 64, 64))["detections"][0]["labels"].tolist()
    # The dense detectors have an output for label 0, which nothing is ever trained to.
    assert {1, 4} <= set(labels) <= {0, 1, 2, 3, 4}


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_features_are_those_of_the_strides_that_are_asked_for(backbone):
    pyramid = Pyramid(backbone, 32, strides=(8, 16, 32)).eval()
    shapes = [tuple(level.shape) for level in pyramid(torch.zeros(1, 3, 64, 96)).values()]
    assert shapes == [(1, 32, 8, 12), (1, 32, 4, 6), (1, 32, 2, 3)]


def test_a_backbone_without_features_at_these_strides_is_refused():
    with pytest.raises(
        UsageError, match=r"backbone must give features at strides 8, 16, as resnet18 .* gives them at 16"
    ):
        Pyramid("vit_tiny_patch16_224", 32)


def test_looking_at_a_backbone_draws_nothing_from_the_generator():
    torch.manual_seed(3)
    first = Pyramid("light", 32).body.state_dict()
    torch.manual_seed(3)
    second = timm.create_model(**_LIGHT_RESNET, features_only=True, out_indices=(2, 3)).state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
