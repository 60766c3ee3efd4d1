import pytest
import torch

from assay.callbacks.errors import UsageError
from assay.callbacks.image_checks import check_channels, check_images


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(2, 3, 4, 5),
        torch.rand(2, 4, 5),
        torch.zeros(2, 1, 4, 5, dtype=torch.uint8),
        torch.zeros(2, 4, 4, 5, dtype=torch.bool),
        [torch.rand(3, 4, 5), torch.rand(3, 7, 2)],
        [torch.rand(4, 5)],
    ],
)
def test_images_that_can_be_drawn_are_returned(images):
    assert check_images("image", images) is images


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(2, 2, 4, 5), r"image_key='x' must be \[N, C, H, W\] with 1, 3 or 4 channels, or \[N, H, W\], got"),
        (torch.rand(5), r"got \(5,\)"),
        ([torch.rand(2, 4, 5)], r"image_key='x' must be \[C, H, W\] with 1, 3 or 4 channels, or \[H, W\], got"),
        (torch.zeros(2, 4, 5, dtype=torch.int64), "must hold floating point, uint8 or bool, got torch.int64"),
        (["a.png"], "must hold a tensor or a list of tensors, got a list"),
        (None, "must hold a tensor or a list of tensors, got a NoneType"),
    ],
)
def test_others_are_an_error(images, message):
    with pytest.raises(UsageError, match=message):
        check_images("x", images)


def test_a_normalization_has_one_number_or_one_a_channel():
    check_channels(torch.rand(2, 3, 4, 5), mean=0.5, std=[0.1, 0.2, 0.3])
    check_channels(torch.rand(2, 4, 5), mean=[0.5], std=1.0)
    with pytest.raises(UsageError, match=r"mean must be one number or one a channel, 1 here, got \[0.5, 0.5, 0.5\]"):
        check_channels(torch.rand(2, 4, 5), mean=[0.5] * 3, std=1.0)
