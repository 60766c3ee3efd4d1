"""Views of an image, and their way back, undo each other."""

import pytest
import torch

from assay.runner import UsageError
from assay.runner.prediction.tta import TTA, Views

COUNTS = {"none": 1, "flips": 3, "d4": 8}


def images(size=6):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", TTA)
def test_all_views_are_different_and_the_first_is_the_image(kind):
    views = Views(kind).augment(images())
    assert len(views) == 2 * COUNTS[kind] == 2 * Views(kind).count
    assert torch.equal(views[:2], images())
    assert len({tuple(view.flatten().tolist()) for view in views}) == len(views)


@pytest.mark.parametrize("kind", TTA)
def test_masks_are_turned_back(kind):
    views = Views(kind)
    torch.testing.assert_close(views.mean_of_masks(views.augment(images())), images(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", TTA)
def test_labels_of_all_views_count_the_same(kind):
    views = Views(kind)
    values = torch.rand(2 * views.count, 5, generator=torch.Generator().manual_seed(1))
    slow = torch.stack([values[index::2].double().mean(dim=0) for index in range(2)])
    torch.testing.assert_close(views.mean_of_labels(values).double(), slow, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", TTA)
def test_boxes_are_turned_back(kind):
    views = Views(kind)
    drawn = torch.zeros(2, 1, 12, 12)
    boxes = [(1, 2, 5, 4), (6, 0, 12, 9)]
    for image, (left, top, right, bottom) in zip(drawn, boxes, strict=True):
        image[0, top:bottom, left:right] = 1
    found = []
    for view in views.augment(drawn)[:, 0]:
        rows, columns = view.any(dim=1).nonzero(), view.any(dim=0).nonzero()
        sides = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        found.append({"boxes": torch.tensor([sides], dtype=torch.float32), "scores": torch.tensor([0.5])})
    for of_views, box in zip(views.boxes(found, 12, 12), boxes, strict=True):
        assert [of["boxes"].tolist() for of in of_views] == [[list(map(float, box))]] * views.count
        assert all(of["scores"].tolist() == [0.5] for of in of_views)


def test_an_image_without_boxes_has_none_in_any_view():
    views = Views("flips")
    assert [len(of["boxes"]) for of in views.boxes([{"boxes": torch.zeros(0, 4)}] * 3, 5, 7)[0]] == [0, 0, 0]


def test_flips_of_boxes_know_height_from_width():
    (of_views,) = Views("flips").boxes([{"boxes": torch.tensor([[1.0, 2.0, 3.0, 5.0]])}] * 3, 10, 20)
    assert [of["boxes"][0].tolist() for of in of_views] == [[1, 2, 3, 5], [17, 2, 19, 5], [1, 5, 3, 8]]


def test_turns_need_square_images():
    with pytest.raises(UsageError, match="--tta d4 needs square images, got 4 x 6: choose flips"):
        Views("d4").augment(torch.zeros(1, 3, 4, 6))
