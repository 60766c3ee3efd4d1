"""Turning the image tensors that a model sees back into pictures that a person can look at."""

from collections.abc import Sequence

import cv2
import numpy as np

Channels = float | Sequence[float]


def to_rgb(image: np.ndarray, mean: Channels = 0.0, std: Channels = 1.0) -> np.ndarray:
    """Convert one image to RGB.

    Args:
        image: [C, H, W] or [H, W]; C is 1 (grey), 3 (RGB) or 4 (RGB and a fourth channel, which is not shown).
            Floating point: normalized as ``(x - mean) / std`` from the range 0 to 1; uint8: 0 to 255, taken as
            it is; bool: black and white. What lies outside of the range is clipped, NaN becomes black.
        mean: of the normalization, one number or one a channel.
        std: of the normalization, likewise.

    Returns:
        [H, W, 3], uint8, RGB.

    Raises:
        ValueError: another shape or type.
    """
    if image.ndim == 2:
        image = image[None]
    if image.ndim != 3 or image.shape[0] not in (1, 3, 4):
        raise ValueError(f"an image must be [H, W] or [C, H, W] with 1, 3 or 4 channels, got shape {image.shape}")
    if image.dtype == np.bool_:
        image = image.astype(np.uint8) * 255
    elif np.issubdtype(image.dtype, np.floating):
        scale, shift = (np.asarray(value, dtype=np.float32).reshape(-1, 1, 1) for value in (std, mean))
        unit = image.astype(np.float32) * scale + shift
        image = (np.nan_to_num(unit).clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    elif image.dtype != np.uint8:
        raise ValueError(f"an image must be floating point, uint8 or bool, got {image.dtype}")
    channels = image[:3] if image.shape[0] >= 3 else image.repeat(3, axis=0)
    return np.ascontiguousarray(channels.transpose(1, 2, 0))


def fit(picture: np.ndarray, size: int, background: Sequence[int]) -> np.ndarray:
    """Scale a picture into a square without distorting it, and centre it there.

    Enlarging repeats pixels, so that each stays visible; shrinking averages them.

    Args:
        picture: [H, W, 3], uint8.
        size: side of the square in pixels.
        background: RGB colour of what the picture leaves free.

    Returns:
        [size, size, 3], uint8.
    """
    height, width = picture.shape[:2]
    factor = size / max(height, width)
    target = (max(1, round(width * factor)), max(1, round(height * factor)))
    interpolation = cv2.INTER_NEAREST if factor >= 1 else cv2.INTER_AREA
    scaled = cv2.resize(picture, target, interpolation=interpolation)
    square = np.empty((size, size, 3), dtype=np.uint8)
    square[:] = background
    top, left = (size - scaled.shape[0]) // 2, (size - scaled.shape[1]) // 2
    square[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return square
