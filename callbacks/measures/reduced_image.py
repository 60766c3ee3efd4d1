"""Reduced copies of large images, no larger than the picture of a sample needs."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .tile_shape import LARGEST_TILE_SIZE, Shape, fitted_shape, halvings

_AT_ONCE = 2**22  # values converted at a time: few enough for their floats to take little memory beside the image
_AS_THEY_ARE = (torch.uint8, torch.int16)  # types that the drawing averages before it cuts them to 0 to 255


def is_reduced(image: Tensor) -> bool:
    """Whether ``reduced`` returns a smaller copy of an image, [..., H, W]."""
    return _halvings(image) > 0


def reduced(images: Any) -> Any:
    """Average images down to the size that the largest picture of a sample is drawn from; smaller ones stay.

    They are halved as often as ``drawings.canvas.images.scale`` would halve them first, so that a picture is the same
    up to rounding. Nothing is read from the device, and only a few MiB are taken beside the result.

    Args:
        images: [..., H, W], or a list of them; of any type that ``drawings.canvas.images.to_rgb`` takes.

    Returns:
        [..., h, w]; float32 of floating point, otherwise uint8, as ``to_rgb`` would show it. Smaller ones: themselves.
    """
    if isinstance(images, list | tuple):
        return [reduced(image) for image in images]
    factor = 2 ** _halvings(images)
    return images if factor == 1 else _average(images.detach(), factor)


def sizes(images: Any) -> list[Shape]:
    """Return height and width of each image of a batch: [N, ..., H, W], or a list of N."""
    return [(image.shape[-2], image.shape[-1]) for image in images]


def _halvings(image: Tensor) -> int:
    shape = (image.shape[-2], image.shape[-1])
    return halvings(shape, fitted_shape(shape, LARGEST_TILE_SIZE))


def _average(images: Tensor, factor: int) -> Tensor:
    """Average squares of ``factor`` by ``factor`` pixels, some rows at a time."""
    is_float = images.is_floating_point()
    height, width = (side // factor for side in images.shape[-2:])
    # Allocated before the parts: results that lie between them in memory would keep freed memory from being used again,
    # and in the end as much would be taken as for a copy of the whole.
    small = images.new_empty((*images.shape[:-2], height, width), dtype=torch.float32 if is_float else torch.uint8)
    rows = max(1, _AT_ONCE // (factor * factor * width))
    planes = images.reshape(-1, *images.shape[-2:])[:, : height * factor, : width * factor]
    for plane, goal in zip(planes, small.view(-1, height, width), strict=True):
        for band, part in zip(plane.split(rows * factor), goal.split(rows), strict=True):
            levels = F.avg_pool2d(_as_levels(band)[None], factor)[0]
            part.copy_(levels if is_float else (levels + 0.5).clamp_(0, 255))
    return small


def _as_levels(band: Tensor) -> Tensor:
    """Return the values of floating point, and of all else levels of 0 to 255; float32."""
    values = band.float()
    if band.is_floating_point() or band.dtype in _AS_THEY_ARE:
        return values
    # From here on as ``to_rgb`` shows these types, so that averaging before it gives the same picture.
    if band.dtype == torch.bool:
        return values * 255
    return values / 257 if band.dtype == torch.uint16 else values.clamp(0, 255)
