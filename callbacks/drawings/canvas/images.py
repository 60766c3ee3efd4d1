"""Images as pictures: from normalized arrays of any type to RGB, scaled and overlaid with heat maps."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from ...measures.tile_shape import Shape, fitted_shape, halvings

Channels = float | Sequence[float]

_SCALABLE = (np.uint8, np.uint16, np.int16, np.float32, np.float64)  # what OpenCV can average


def to_rgb(image: np.ndarray, mean: Channels = 0.0, std: Channels = 1.0) -> np.ndarray:
    """Convert one image to RGB.

    Args:
        image: [C, H, W] or [H, W]. Of the channels one is grey, two are shown as red and green, of three and more
            the first three are red, green and blue and the others are not shown.
            Floating point: normalized as ``(x - mean) / std`` from the range 0 to 1; uint16: 0 to 65535; any other
            integer: 0 to 255, taken as it is; bool: black and white. What lies outside of the range is clipped, NaN
            becomes black.
        mean: of the normalization of floating point, one number or one per channel.
        std: one number or one per channel.

    Returns:
        [H, W, 3], uint8, RGB.

    Raises:
        ValueError: another shape or type, or a mean or std of another length.

    Example:
        >>> grey = np.zeros((1, 4, 4), dtype=np.float32)
        >>> to_rgb(grey, mean=0.5, std=0.5)[0, 0]
        array([128, 128, 128], dtype=uint8)
    """
    channels = _visible_channels(image)
    if np.issubdtype(image.dtype, np.floating):
        scale, shift = (
            _per_channel(name, value, image, len(channels)) for name, value in (("std", std), ("mean", mean))
        )
        unit = channels.astype(np.float32) * scale + shift
        channels = (np.nan_to_num(unit).clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    elif image.dtype == np.bool_:
        channels = channels.astype(np.uint8) * 255
    elif image.dtype == np.uint16:
        # 65535 = 255 * 257, so that this is division with rounding.
        channels = ((channels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif image.dtype != np.uint8:
        channels = channels.clip(0, 255).astype(np.uint8)
    # Two channels are red and green: a third one of zeros keeps them apart.
    if len(channels) == 2:
        channels = np.concatenate([channels, np.zeros_like(channels[:1])])
    elif len(channels) == 1:
        channels = channels.repeat(3, axis=0)
    # A copy, as OpenCV refuses to draw on transposed memory.
    return np.ascontiguousarray(channels.transpose(1, 2, 0))


def _visible_channels(image: np.ndarray) -> np.ndarray:
    """Return the channels that are shown, [1 to 3, H, W]."""
    if image.ndim not in (2, 3) or image.size == 0:
        note = "; of a volume hand in one slice" if image.ndim > 3 else ""
        raise ValueError(f"an image must be [H, W] or [C, H, W] and not empty, got shape {image.shape}{note}")
    if not (np.issubdtype(image.dtype, np.floating) or image.dtype == np.bool_ or image.dtype.kind in "iu"):
        raise ValueError(f"an image must be floating point, integer or bool, got {image.dtype}")
    return image[None] if image.ndim == 2 else image[:3]


def _per_channel(name: str, value: Channels, image: np.ndarray, shown: int) -> np.ndarray:
    count = 1 if image.ndim == 2 else len(image)
    if not fits_channels(value, count):
        raise ValueError(f"{name} must be one number or one for each of {count} channels, got {value!r}")
    return np.asarray(value, dtype=np.float32).reshape(-1)[:shown].reshape(-1, 1, 1)


def fits_channels(value: Channels, channels: int) -> bool:
    """Whether a mean or std has one number, or one for each of the channels of an image."""
    return np.size(value) in (1, channels)


def _first_three(value: Channels) -> Channels:
    return value if isinstance(value, int | float) else list(value)[:3]


def thumbnail(
    image: np.ndarray, size: int, mean: Channels = 0.0, std: Channels = 1.0, shape: Sequence[int] | None = None
) -> np.ndarray:
    """Convert one image to RGB in the size that ``fit`` would give it, at a cost that hardly grows with the image.

    Args:
        image: see ``to_rgb``; a large one is averaged before it is converted.
        size: of the longer side in pixels.
        mean: see ``to_rgb``.
        std: see ``to_rgb``.
        shape: height and width that the image had, where it is a reduced copy; None: those that it has.

    Returns:
        [h, w, 3], uint8, RGB.
    """
    channels = _visible_channels(image)
    goal = fitted_shape(channels.shape[1:] if shape is None else shape, size)
    # Averaging commutes with the normalization, so that the small picture can be converted instead of the large one.
    if goal[0] < channels.shape[1] and image.dtype in _SCALABLE:
        # Checked here, as the scaled planes no longer show how many channels the image had.
        for name, value in (("mean", mean), ("std", std)):
            _per_channel(name, value, image, len(channels))
        small = scale_planes(channels, goal).transpose(2, 0, 1)
        return to_rgb(small, _first_three(mean), _first_three(std))
    return scale(to_rgb(image, mean, std), goal)


def scale(picture: np.ndarray, shape: Shape) -> np.ndarray:
    """Scale [H, W] or [H, W, C] to another height and width: enlarging repeats pixels, shrinking averages them."""
    if picture.shape[:2] == shape:
        return picture
    picture = np.ascontiguousarray(_halve(picture, shape))
    # INTER_AREA averages all pixels that a new one covers; the others would pick some, and thin lines would vanish.
    shrinks = shape[0] < picture.shape[0] or shape[1] < picture.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    scaled: np.ndarray = cv2.resize(picture, shape[::-1], interpolation=interpolation)
    return scaled


def scale_planes(planes: Iterable[np.ndarray], shape: Shape) -> np.ndarray:
    """Scale C planes [H, W] of one size as ``scale`` does, together; return [h, w, C]."""
    merged = np.stack([_halve(plane, shape) for plane in planes], axis=-1)
    return scale(merged, shape).reshape(*shape, -1)


def _halve(picture: np.ndarray, shape: Shape) -> np.ndarray:
    """Halve a picture until it is at most three times as large as its goal."""
    # 20 times cheaper than averaging it in one step.
    for _ in range(halvings(picture.shape, shape)):
        height, width = picture.shape[0] // 2, picture.shape[1] // 2
        even = np.ascontiguousarray(picture[: 2 * height, : 2 * width])
        picture = cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA)
    return picture


def fit(picture: np.ndarray, size: int, background: Sequence[int]) -> np.ndarray:
    """Scale a picture into a square without distorting it, and centre it there.

    Enlarging repeats pixels, so that each stays visible; shrinking averages them.

    Args:
        picture: [H, W, 3], uint8.
        size: side of the square in pixels.
        background: RGB colour of what the picture leaves free.

    Returns:
        [size, size, 3], uint8.

    Example:
        >>> fit(np.zeros((20, 40, 3), dtype=np.uint8), 16, background=(255, 255, 255)).shape
        (16, 16, 3)
    """
    if picture.shape[:2] == (size, size):
        return picture
    scaled = scale(picture, fitted_shape(picture.shape[:2], size))
    square = np.empty((size, size, 3), dtype=np.uint8)
    square[:] = background
    top, left = (size - scaled.shape[0]) // 2, (size - scaled.shape[1]) // 2
    square[top : top + scaled.shape[0], left : left + scaled.shape[1]] = scaled
    return square


def heat_over(picture: np.ndarray, heat: np.ndarray, *, opacity: float = 0.75) -> np.ndarray:
    """Lay a heat map over a picture in grey, which shows through the more the lower the map is: yellow is 1.

    Args:
        picture: [H, W, 3], uint8, RGB.
        heat: [h, w], 0 to 1, of any size: it is enlarged smoothly. Where it is 0 the picture stays as it is, in grey.
        opacity: of the heat map where it is 1.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    # A map of a diverged model may be NaN: it is drawn as 0.
    heat = np.nan_to_num(np.asarray(heat, dtype=np.float32)).clip(0.0, 1.0)
    # In grey, so that the only colours are those of the heat map.
    grey: np.ndarray = cv2.merge([cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)] * 3)
    if not heat.any():
        return grey
    # Linearly, as the cells of the map are those of a layer and have no border in the image.
    smooth = cv2.resize(heat, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    cover = opacity * smooth[:, :, None]
    drawn: np.ndarray = (grey * (1.0 - cover) + heat_colours(smooth) * cover + 0.5).astype(np.uint8)
    return drawn


def heat_colours(heat: np.ndarray) -> np.ndarray:
    """Return the colours of a heat map, [h, w], 0 to 1, float32: black is 0, yellow is 1."""
    # Inferno's brightness grows with the value, so that a map can be read in grey too.
    inferno = cv2.applyColorMap((heat * 255.0 + 0.5).astype(np.uint8), cv2.COLORMAP_INFERNO)
    colours: np.ndarray = cv2.cvtColor(inferno, cv2.COLOR_BGR2RGB)
    return colours
