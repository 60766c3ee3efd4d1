import numpy as np
import pytest
import torch

from assay.callbacks.base.image_checks import check_images
from assay.callbacks.drawings.canvas.images import to_rgb
from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.errors import UsageError

DRAWN = [
    torch.rand(2, 3, 4, 5),
    torch.rand(2, 4, 5),
    torch.rand(2, 13, 4, 5),
    torch.zeros(2, 2, 4, 5, dtype=torch.int16),
    torch.zeros(2, 1, 4, 5, dtype=torch.uint8),
    torch.zeros(2, 4, 4, 5, dtype=torch.bool),
    torch.zeros(0, 3, 4, 5),
    [torch.rand(3, 4, 5), torch.rand(3, 7, 2)],
    [torch.rand(4, 5)],
]
NOT_DRAWN = [
    (torch.rand(5), r"image_key='x' must be \[N, C, H, W\] or \[N, H, W\], or a list of N images .*, got \(5,\)"),
    (torch.rand(2, 1, 4, 4, 4), r"got \(2, 1, 4, 4, 4\); of volumes hand in a slice"),
    (torch.rand(2, 0, 4, 5), r"not empty, got \(2, 0, 4, 5\)"),
    ([torch.rand(5)], r"got a list with \(5,\)"),
    ([torch.rand(0, 5)], r"not empty, got a list with \(0, 5\)"),
    (torch.zeros(2, 4, 5, dtype=torch.complex64), "floating point, integers or bool, got torch.complex64"),
    (["a.png"], "got a list with str"),
    ("a.png", "got str"),
    (None, "got NoneType"),
]


@pytest.mark.parametrize("images", DRAWN)
def test_images_that_can_be_drawn_are_returned(images):
    assert check_images("image", images) is images
    for image in images:
        assert to_rgb(image.numpy()).shape == (*image.shape[-2:], 3)


@pytest.mark.parametrize(("images", "message"), NOT_DRAWN)
def test_others_are_an_error(images, message):
    with pytest.raises(UsageError, match=message):
        check_images("x", images)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_a_normalization_is_refused_where_the_drawing_would_refuse_it(channels, count):
    images, mean = torch.rand(2, channels, 4, 5), [0.5] * count
    if count in (1, channels):
        assert check_images("image", images, PictureStyle(mean=mean)) is images
        to_rgb(images[0].numpy(), mean)
    else:
        message = f"mean must be one number or one per channel, {channels} here"
        with pytest.raises(UsageError, match=message):
            check_images("image", images, PictureStyle(mean=mean))
        with pytest.raises(ValueError, match="mean must be one number or one"):
            to_rgb(np.asarray(images[0]), mean)


def test_every_image_of_a_list_is_checked():
    images = [torch.rand(3, 4, 5), torch.rand(4, 4, 5)]
    with pytest.raises(UsageError, match="std must be one number or one per channel, 4 here"):
        check_images("image", images, PictureStyle(std=[1, 2, 3]))
