import numpy as np
import pytest

from assay.callbacks.drawings.augmentation_preview import _boxes, _words, draw_truth
from assay.callbacks.drawings.palette import IGNORED, class_colours

NAMES = ["cat", "dog", "bird"]


def image(value=0.5, size=(16, 16)):
    return np.full((3, *size), value, dtype=np.float32)


def drawn(target, size=(16, 16), **options):
    return draw_truth({"image": [image(size=size)], "sample_id": ["a"], "target": [target]}, [], **options)


def has(picture, colour):
    return bool((picture == np.array(colour)).all(axis=2).any())


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.int64(1), "dog"),
        (np.array([2]), "bird"),
        (np.int64(7), "7"),
        (np.int64(-100), "ignored"),
        (np.float32(0.123456), "0.1235"),
        (np.array([1, 0, 1]), "cat, bird"),
        (np.array([0.0, 0.0, 0.0]), "no label"),
        (np.array([0.5, 2.0]), "2 numbers"),
    ],
)
def test_targets_are_told_in_words(target, words):
    assert _words(target, NAMES, -100) == words


def test_a_mask_is_shown_beside_the_image_in_the_colours_of_its_classes():
    mask = np.zeros((16, 16), dtype=np.int64)
    mask[:8], mask[8:, 8:] = 2, 255
    colours = class_colours(3)
    for target in (mask, mask[None]):
        picture = drawn(target, class_names=NAMES, ignore_index=255)
        assert picture.shape[1] > drawn(np.int64(1)).shape[1]
        assert has(picture, colours[2])
        assert has(picture, colours[0])
        assert not has(picture, colours[1])
        assert has(picture, IGNORED)


def test_overlapping_masks_show_the_last_one():
    masks = np.zeros((3, 16, 16), dtype=np.float32)
    masks[0, :8], masks[1, :8] = 1, 1
    picture = drawn(masks)
    assert has(picture, class_colours(3)[1])
    assert not has(picture, class_colours(3)[0])


def test_boxes_stand_where_they_are_in_the_image():
    target = {"boxes": np.array([[10.0, 20.0, 50.0, 60.0]]), "labels": np.array([1])}
    picture = np.zeros((240, 240, 3), dtype=np.uint8)
    marked = (_boxes(picture, (80, 80), target, NAMES, legend := {}) == class_colours(2)[1]).all(axis=2)
    rows, columns = np.nonzero(marked)
    expected = (30, 150, 60, 180)  # three pixels of the tile are one of the image
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == pytest.approx(expected, abs=2)
    assert [name for name, _ in legend] == ["dog"]


def test_no_boxes_and_boxes_that_leave_the_image_are_drawn():
    none = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, np.int64)}
    wild = {"boxes": np.array([[-1e9, np.nan, 1e9, 40.0]]), "labels": np.array([0])}
    assert drawn(none).shape[1] == drawn(wild).shape[1]


@pytest.mark.parametrize("target", [None, {"keypoints": np.zeros(3)}])
def test_other_targets_leave_the_image_alone(target):
    alone = draw_truth({"image": [image()], "sample_id": ["a"]}, [])
    if target is None:
        assert np.array_equal(drawn(None), alone)
    else:
        assert drawn(target).ndim == 3
