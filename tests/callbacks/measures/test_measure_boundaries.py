"""Boundaries of regions against erosion by OpenCV and by SciPy, as the authors of boundary IoU do it."""

import math

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from assay.callbacks.measures.boundaries import boundary_reach, find_boundaries


def blobs(classes, shape, seed=0):
    """Return maps of large regions with winding borders, [3, H, W]."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(classes, 3, *shape)), (0, 0, 4, 4), mode="reflect")
    return noise.argmax(axis=0)


def by_opencv(mask):
    """As the authors' ``mask_to_boundary``: a border of zeros, then erosion by 3 x 3 pixels, again and again."""
    height, width = mask.shape
    times = max(1, round(0.02 * math.sqrt(height**2 + width**2)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=times)
    return mask & ~eroded[1 : height + 1, 1 : width + 1].astype(bool)


@pytest.mark.parametrize(
    ("classes", "shape"),
    [*((classes, shape) for classes in (2, 5) for shape in ((121, 75), (300, 260), (9, 200), (1, 1))), (300, (40, 60))],
    ids=str,
)
def test_it_is_what_erosion_by_opencv_takes_away_from_each_class(shape, classes):
    labels = blobs(classes, shape)
    reach = boundary_reach(shape)
    found = find_boundaries(torch.from_numpy(labels), classes, torch.zeros(1, dtype=torch.bool), reach).numpy()
    for image, of in zip(labels, found, strict=True):
        expected = np.zeros(shape, dtype=bool)
        for label in np.unique(image):
            expected |= by_opencv(image == label)
        assert np.array_equal(of, expected)


@pytest.mark.parametrize("reach", [1, 2, 3, 7, 8, 15])
def test_pixels_that_are_ignored_make_no_boundary(reach):
    labels = blobs(3, (50, 60), seed=1)
    ignored = blobs(4, (50, 60), seed=2) == 0
    with_holes = np.where(ignored, 255, labels)
    found = find_boundaries(torch.from_numpy(with_holes), 3, torch.from_numpy(ignored), reach).numpy()
    square = np.ones((2 * reach + 1,) * 2)
    for image, hidden, of in zip(labels, ignored, found, strict=True):
        for label in range(3):
            mask = (image == label) & ~hidden
            inside = ndimage.binary_erosion(mask | hidden, square, border_value=0)
            assert np.array_equal(of & mask, mask & ~inside)


def test_the_reach_is_two_hundredths_of_the_diagonal_and_at_least_a_pixel():
    assert [boundary_reach(shape) for shape in ((3, 4), (96, 96), (1080, 1920), (300, 400))] == [1, 3, 44, 10]


def test_volumes_have_boundaries_in_all_directions():
    labels = np.zeros((1, 9, 9, 9), dtype=np.int64)
    labels[0, 4:, :, :] = 1
    found = find_boundaries(torch.from_numpy(labels), 2, torch.zeros(1, dtype=torch.bool), 1)[0].numpy()
    inside = [ndimage.binary_erosion(labels[0] == label, np.ones((3, 3, 3)), border_value=0) for label in (0, 1)]
    assert np.array_equal(found, ~(inside[0] | inside[1]))


def test_nothing_is_read_from_the_device():
    labels = torch.empty((2, 30, 40), dtype=torch.int64, device="meta")
    found = find_boundaries(labels, 5, torch.empty(labels.shape, dtype=torch.bool, device="meta"), 3)
    assert (found.shape, found.dtype) == (labels.shape, torch.bool)
