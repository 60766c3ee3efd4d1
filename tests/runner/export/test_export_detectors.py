"""torchvision's detectors find the same boxes when their parts are replaced for an export."""

import pytest
import torch
from sure_detectors import limit_scores, sure_detector

from assay.runner.export.comparison import compare_boxes
from assay.runner.export.detectors import followable

IMAGES = torch.rand(3, 3, 96, 80, generator=torch.Generator().manual_seed(1))
NAMES = ["fcos", "retinanet", "faster_rcnn"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("most", [200, 7])
def test_the_boxes_are_those_of_the_original(name, most):
    model = sure_detector(name, IMAGES)
    for part in model.modules():
        if hasattr(part, "detections_per_img"):
            part.detections_per_img = most
    with torch.no_grad():
        expected = model(IMAGES)["detections"]
        with followable(model):
            found = model(IMAGES)["detections"]
        again = model(IMAGES)["detections"]
    assert all(0 < len(one["boxes"]) <= most for one in expected)
    for one, other, last in zip(expected, found, again, strict=True):
        # Matched, as boxes of one score may come in any order.
        assert (
            compare_boxes(*({name: part.numpy() for name, part in it.items()} for it in (one, other)), 1).value < 1e-4
        )
        assert all(torch.equal(last[part], one[part]) for part in one)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_without_boxes_has_none(name):
    model = sure_detector(name, IMAGES)
    limit_scores(model, 1.1)
    image = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        assert len(model(image)["detections"][0]["boxes"]) == 0
        with followable(model):
            assert len(model(image)["detections"][0]["boxes"]) == 0
