"""Small pictures of the images of a batch, made on their device without reading it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .reduced_image import reduced
from .tile_shape import Shape, fitted_shape

Channels = float | Sequence[float]


def small_pictures(images: Tensor, side: int, mean: Channels = 0.0, std: Channels = 1.0) -> Tensor:
    """Return images as pictures whose longer side has at most ``side`` pixels; smaller ones keep their size.

    Pixels are averaged, and shown as ``drawings.canvas.images.to_rgb`` shows them: of two channels and of three or more
    the first three at most, floating point without its normalization.

    Args:
        images: [N, C, H, W] or [N, H, W], of any type that ``to_rgb`` takes, not empty.
        side: in pixels, at least 1.
        mean: of the normalization ``(x - mean) / std`` of floating point, one number or one per channel.
        std: see ``mean``.

    Returns:
        [N, c, h, w], uint8, c of 1 to 3: grey, red and green, or red, green and blue.

    Example:
        >>> small_pictures(torch.zeros(2, 4, 64, 32), 16, mean=0.5, std=0.25).shape
        torch.Size([2, 3, 16, 8])
    """
    images = images.detach()
    visible = images[:, None] if images.ndim == 3 else images[:, :3]
    is_float, is_bool = images.is_floating_point(), images.dtype == torch.bool
    goal = small_shape(images.shape[-2:], side)
    visible = reduced(visible)
    values = visible.float()
    if visible.dtype == torch.uint16:  # one that was averaged is of 8 bits already
        values = values / 257
    elif is_bool and visible.dtype == torch.bool:
        values = values * 255
    if values.shape[-2:] != goal:
        values = F.interpolate(values, goal, mode="area")
    if is_float:
        # Channel by channel with plain numbers: a tensor of them would have to travel to the device.
        planes = [values[:, place] * of_std + of_mean for place, (of_mean, of_std) in _numbers(values, mean, std)]
        values = torch.nan_to_num(torch.stack(planes, dim=1)).clamp(0, 1) * 255
    pictures: Tensor = (values.clamp(0, 255) + 0.5).to(torch.uint8)
    return pictures


def small_shape(shape: Sequence[int], side: int) -> Shape:
    """Return height and width of the small picture of an image."""
    return fitted_shape(shape, side) if max(shape) > side else (shape[0], shape[1])


def _numbers(values: Tensor, mean: Channels, std: Channels) -> list[tuple[int, tuple[float, float]]]:
    means, stds = ([float(one)] * 3 if isinstance(one, int | float) else [*map(float, one)] for one in (mean, std))
    means, stds = (one * 3 if len(one) == 1 else one for one in (means, stds))
    return [(place, (means[place], stds[place])) for place in range(values.shape[1])]
