"""Checks that the images of a batch can be drawn, before they reach the writer's thread."""

from typing import Any

from torch import Tensor

from ..drawings.canvas.images import fits_channels
from ..drawings.canvas.picture_style import PictureStyle
from ..errors import UsageError


def check_images(key: str, images: Any, style: PictureStyle | None = None) -> Any:
    """Return the images of a batch: [N, C, H, W] or [N, H, W], or a list of N images [C, H, W] or [H, W].

    Args:
        key: key of the images in the batch, for the error.
        images: floating point, integers or bool, with any number of channels, see ``drawings.canvas.images.to_rgb``.
        style: its ``mean`` and ``std`` are checked too; None: there are none to check.

    Raises:
        UsageError: the images have another shape or type, or ``mean`` or ``std`` has neither one number nor one per
            channel.
    """
    # What cannot be drawn must fail at the batch: the writer's thread would raise the error some steps later.
    normalization = [] if style is None else [("mean", style.mean), ("std", style.std)]
    listed = isinstance(images, list | tuple)
    axes = 3 if listed else 4
    for image in images if listed else [images]:
        if not isinstance(image, Tensor) or image.ndim not in (axes - 1, axes) or 0 in image.shape[axes - 3 :]:
            got = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise UsageError(
                f"image_key={key!r} must be [N, C, H, W] or [N, H, W], or a list of N images [C, H, W] or [H, W], not "
                f"empty, got {f'a list with {got}' if listed else got}; of volumes hand in a slice. Where samples are "
                "no images, leave the callback out (lists: image_key=None), or draw them by visualize_batch=."
            )
        if image.is_complex():
            raise UsageError(f"image_key={key!r} must hold floating point, integers or bool, got {image.dtype}.")
        channels = image.shape[-3] if image.ndim == axes else 1
        for name, values in normalization:
            if not fits_channels(values, channels):
                raise UsageError(f"{name} must be one number or one per channel, {channels} here, got {values!r}.")
    return images
