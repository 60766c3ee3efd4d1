"""Whether what a batch holds under its image key can be drawn, said before it gets to the writer's thread."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .drawings.pictures import Channels
from .errors import UsageError


def check_images(key: str, images: Any) -> Any:
    """Return the images of a batch: [N, C, H, W] or [N, H, W], or a list of N images [C, H, W] of several sizes.

    Raises:
        UsageError: another shape, type or number of channels.
    """
    if isinstance(images, Tensor):
        _check_one(key, images, channel_axis=1, ranks=(3, 4))
        return images
    if not isinstance(images, list | tuple) or not all(isinstance(image, Tensor) for image in images):
        raise UsageError(f"image_key={key!r} must hold a tensor or a list of tensors, got a {type(images).__name__}.")
    for image in images:
        _check_one(key, image, channel_axis=0, ranks=(2, 3))
    return images


def check_channels(images: Any, **normalization: Channels) -> None:
    """Raise a ``UsageError`` where ``mean`` or ``std`` has neither one number nor one a channel."""
    image = images[0]
    channels = image.shape[0] if image.ndim == 3 else 1
    for name, values in normalization.items():
        if np.size(values) not in (1, channels):
            raise UsageError(f"{name} must be one number or one a channel, {channels} here, got {values!r}.")


def _check_one(key: str, images: Tensor, channel_axis: int, ranks: tuple[int, int]) -> None:
    channels = images.shape[channel_axis] if images.ndim == ranks[1] else 1
    if images.ndim not in ranks or channels not in (1, 3, 4):
        batch = "N, " * channel_axis
        raise UsageError(
            f"image_key={key!r} must be [{batch}C, H, W] with 1, 3 or 4 channels, or [{batch}H, W], "
            f"got {tuple(images.shape)}."
        )
    if not images.is_floating_point() and images.dtype not in (torch.uint8, torch.bool):
        raise UsageError(f"image_key={key!r} must hold floating point, uint8 or bool, got {images.dtype}.")
