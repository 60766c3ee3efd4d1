import albumentations as A
import cv2
import numpy as np
import pytest
import torch

from assay.callbacks import UsageError
from assay.runner import make_transform
from assay.runner.data.augmentation import IGNORED, LEVELS, MEAN, RESIZES, STD


def picture(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, np.full_like(rows, 40)], axis=-1).astype(np.uint8)


def pixels(image, mean=MEAN, std=STD):
    found = image.permute(1, 2, 0).numpy() * np.array(std) + np.array(mean)
    return np.round(found * 255).astype(int)


def test_none_normalizes_and_nothing_else():
    image = picture(6, 4)
    found = make_transform()(image=image)["image"]
    assert found.dtype == torch.float32
    expected = (image / 255 - np.array(MEAN)) / np.array(STD)
    assert np.allclose(found.permute(1, 2, 0).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (7, 90), (32, 32)])
@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("level", LEVELS)
def test_every_image_gets_the_size(size, resize, level):
    transform = make_transform(level, 32, resize=resize, masks=True)
    for seed in range(4):
        transform.set_random_seed(seed)
        parts = transform(image=picture(*size), mask=np.ones(size, np.uint8))
        assert parts["image"].shape == (3, 32, 32) and parts["mask"].shape == (32, 32)
        assert set(parts["mask"].unique().tolist()) <= {1, IGNORED}
    assert make_transform(level, (16, 48), resize=resize)(image=picture(*size))["image"].shape == (3, 16, 48)


def test_letterbox_keeps_the_ratio_and_adds_grey_that_counts_for_nothing():
    image = picture(20, 40)
    parts = make_transform(image_size=32, masks=True)(image=image, mask=np.ones((20, 40), np.uint8))
    found = pixels(parts["image"])
    assert (found[:8] == 128).all() and (found[24:] == 128).all()
    assert np.array_equal(found[8:24], cv2.resize(image, (32, 16), interpolation=cv2.INTER_AREA))
    assert (parts["mask"][8:24] == 1).all() and (parts["mask"] == IGNORED).sum() == 16 * 32


def test_stretch_and_crop():
    image = picture(20, 40)
    stretched = pixels(make_transform(image_size=16, resize="stretch")(image=image)["image"])
    assert np.array_equal(stretched, cv2.resize(image, (16, 16), interpolation=cv2.INTER_AREA))
    cropped = pixels(make_transform(image_size=20, resize="crop")(image=image)["image"])
    assert np.array_equal(cropped, image[:, 10:30])


def test_a_crop_is_drawn_where_there_is_chance():
    transform = make_transform("light", 20, resize="crop", symmetry="square")
    starts = set()
    for seed in range(20):
        transform.set_random_seed(seed)
        starts.add(int(pixels(transform(image=picture(20, 200))["image"])[..., 1].min()))
    assert len(starts) > 10


def test_boxes_go_with_their_image():
    boxes, labels = np.array([[10, 0, 30, 20], [0, 0, 4, 4]], np.float32), np.array([1, 2])
    parts = make_transform(image_size=20, boxes=True)(image=picture(20, 40), bboxes=boxes, labels=labels)
    assert np.allclose(parts["bboxes"], boxes / 2 + [0, 5, 0, 5])
    parts = make_transform(image_size=20, resize="crop", boxes=True)(image=picture(20, 40), bboxes=boxes, labels=labels)
    assert np.allclose(parts["bboxes"], [[0, 0, 20, 20]]) and list(parts["labels"]) == [1]
    empty = make_transform("hard", 20, boxes=True)(image=picture(20, 40), bboxes=np.zeros((0, 4)), labels=np.zeros(0))
    assert len(empty["bboxes"]) == 0


@pytest.mark.parametrize(("symmetry", "count"), [("none", 1), ("horizontal", 2), ("square", 8)])
def test_symmetry_says_what_an_image_may_be_turned_to(symmetry, count):
    transform = make_transform("light", symmetry=symmetry)
    transform = A.Compose([step for step in transform.transforms if not isinstance(step, A.Affine)])
    found = set()
    for seed in range(100):
        transform.set_random_seed(seed)
        found.add(transform(image=picture(8, 8))["image"].numpy().tobytes())
    assert len(found) == count


def test_mean_and_std_are_those_given():
    found = make_transform(mean=0.5, std=(0.1, 0.2, 0.4))(image=np.full((2, 2, 3), 255, np.uint8))["image"]
    assert torch.allclose(found[:, 0, 0], torch.tensor([5.0, 2.5, 1.25]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": "heavy"}, "unknown level 'heavy'"),
        ({"resize": "letterboxed"}, "unknown resize 'letterboxed'; did you mean 'letterbox'"),
        ({"symmetry": "vertical"}, "unknown symmetry 'vertical'"),
    ],
)
def test_an_unknown_name_is_refused(options, message):
    with pytest.raises(UsageError, match=message):
        make_transform(**options)


def test_every_box_of_a_file_is_scored_however_small_it_becomes():
    parts = {"image": np.zeros((100, 1000, 3), np.uint8), "bboxes": np.float32([[3, 4, 6, 7], [0, 0, 500, 50]])}
    sizes = {level: len(make_transform(level, 50, boxes=True)(**parts, labels=[1, 2])["bboxes"]) for level in LEVELS}
    assert sizes["none"] == 2
