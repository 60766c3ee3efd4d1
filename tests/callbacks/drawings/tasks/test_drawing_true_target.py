import numpy as np
import pytest

from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.canvas.theme import IGNORED
from assay.callbacks.drawings.samples import draw_samples
from assay.callbacks.drawings.tasks import boxes
from assay.callbacks.drawings.tasks.true_target import show_true_target

NAMES = ["cat", "dog", "bird"]
PICTURE = np.full((144, 144, 3), 128, dtype=np.uint8)


def image(size=(16, 16)):
    return np.full((3, *size), 0.5, dtype=np.float32)


def drawn(target, **options):
    return draw_samples({"image": [image()], "sample_id": ["a"], "target": [target]}, [], **options)


def has(picture, colour):
    return bool((picture == np.array(colour)).all(axis=2).any())


def words(target, task=None, width=400):
    style = PictureStyle(NAMES, ignore_index=-100)
    return list(show_true_target(PICTURE, (16, 16), target, task=task, style=style, width=width).lines)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (np.int64(1), "dog"),
        (np.array([2]), "bird"),
        (np.int64(7), "7"),
        (np.int64(-100), "ignored"),
        (np.float32(0.123456), "0.1235"),
        (np.float32(1.0), "1"),
        (np.array([1, 0, 1]), "cat, bird"),
        (np.array([1, -100, 0]), "cat"),
        (np.array([0.0, 0.0, 0.0]), "no label"),
        (np.array([0.5, 2.0]), "0.5, 2"),
    ],
)
def test_targets_are_told_in_words(target, text):
    assert words(target) == [f"true: {text}"]


def test_the_task_tells_a_class_from_a_number_and_probabilities_from_labels():
    assert words(np.float32(1.0), "binary") == ["true: dog"]
    assert words(np.float32(0.25), "binary") == ["true: 0.25"]
    assert words(np.array([0.1, 0.2, 0.7]), "multiclass") == ["true: bird"]


def test_labels_that_find_no_room_are_counted():
    assert words(np.array([1, 1, 1]), width=250) == ["true: cat +2 more"]


def test_a_mask_is_shown_beside_the_image_in_the_colours_of_its_classes():
    mask = np.zeros((16, 16), dtype=np.int64)
    mask[:8], mask[8:, 8:] = 2, 255
    colours = class_colours(3)
    for target in (mask, mask[None], mask.astype(np.float32)):
        picture = drawn(target, style=PictureStyle(NAMES, ignore_index=255))
        assert (picture == 128).all(axis=2).sum() >= 320 * 320
        assert has(picture, colours[2])
        assert has(picture, colours[0])
        assert not has(picture, colours[1])
        assert has(picture, IGNORED)


def test_a_mask_without_a_class_is_all_grey():
    picture = drawn(np.full((16, 16), -100), style=PictureStyle(ignore_index=-100))
    assert (picture == IGNORED[0]).all(axis=2).sum() >= 144 * 144


def test_overlapping_masks_show_the_last_one():
    masks = np.zeros((3, 16, 16), dtype=np.float32)
    masks[0, :8], masks[1, :8] = 1, 1
    picture = drawn(masks)
    assert has(picture, class_colours(3)[1])
    assert not has(picture, class_colours(3)[0])


def test_boxes_stand_where_they_are_in_the_image_in_the_colours_of_their_classes():
    target = {"boxes": np.array([[10.0, 20.0, 50.0, 60.0]]), "labels": np.array([1])}
    text = boxes.draw_true_boxes(np.zeros((240, 240, 3), dtype=np.uint8), (80, 80), target, PictureStyle(NAMES))
    rows, columns = np.nonzero((text.panels[0] == class_colours(2)[1]).all(axis=2))
    expected = (24, 156, 54, 186)  # three pixels of the tile are one of the image, and the line lies around the box
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == pytest.approx(expected, abs=1)
    assert list(text.lines) == ["boxes: 1"]
    assert [entry.name for entry, _ in text.legend] == ["dog"]


def test_no_boxes_and_boxes_that_leave_the_image_are_drawn():
    none = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, np.int64)}
    wild = {"boxes": np.array([[-1e9, np.nan, 1e9, 40.0], [-50, -50, 500, 500]]), "labels": np.array([0, -1])}
    assert drawn(none).shape[1] == drawn(wild).shape[1]


@pytest.mark.parametrize("target", [None, {"keypoints": np.zeros(3)}, "a name"])
def test_other_targets_leave_the_image_alone(target):
    assert words(target) == []
    assert drawn(target).ndim == 3
