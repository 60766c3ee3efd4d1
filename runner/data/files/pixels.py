"""Convert stored samples to the picture that a viewer shows: 8 bits, on white, upright."""

from dataclasses import dataclass

import cv2
import numpy as np

_FLIPS = {
    1: (False, False), 2: (False, True), 3: (True, True), 4: (True, False),
    5: (False, False), 6: (False, True), 7: (True, True), 8: (True, False),
}  # fmt: skip
_FIRST_TRANSPOSED = 5  # from this orientation on, rows and columns are swapped before the flips
_FLIP_CODES = {(True, False): 0, (False, True): 1, (True, True): -1}  # for cv2.flip


@dataclass(frozen=True)
class Pixels:
    """Samples of an image.

    Attributes:
        values: [H, W, C] of any number type: grey or RGB, with alpha last.
        white: the largest value that a sample may have, as the file declares it; None: not declared.
        has_alpha: whether the last channel is opacity.
        is_premultiplied: whether the colours are already multiplied by alpha.
    """

    values: np.ndarray
    white: int | None = None
    has_alpha: bool = False
    is_premultiplied: bool = False

    @property
    def lacks_white(self) -> bool:
        """Whether the largest value is neither declared nor implied by the number type."""
        return self.white is None and self.values.dtype != np.uint8


def to_bytes(pixels: Pixels, max_value: float | None = None) -> np.ndarray:
    """Return the picture on white, [H, W, 1 or 3] uint8, in the orientation of the file.

    Args:
        pixels: the samples.
        max_value: the value that is white, where the file does not declare it; None: the full 16 bits are used.

    Raises:
        ValueError: they are neither uint8 nor uint16, and there is no ``max_value``.
    """
    white = max_value if pixels.lacks_white else pixels.white
    values = (
        pixels.values if white is None and pixels.values.dtype == np.uint8 else _scale_to_bytes(pixels.values, white)
    )
    return _blend_on_white(values, pixels.is_premultiplied) if pixels.has_alpha else values


def _scale_to_bytes(values: np.ndarray, white: float | None) -> np.ndarray:
    if values.dtype not in (np.uint8, np.uint16):
        return _scale_numbers(values, white)
    white = 65535 if white is None else white
    bits = int(white).bit_length()
    if white != 2**bits - 1 or bits < 8:
        return _scale_numbers(values, white)
    # White is all ones: the high 8 bits are the pixel, and a shift is faster than a division.
    scaled: np.ndarray = (np.minimum(values, np.uint16(white)) >> np.uint16(bits - 8)).astype(np.uint8)
    return scaled


def _scale_numbers(values: np.ndarray, white: float | None) -> np.ndarray:
    if white is None:
        raise ValueError(
            f"its pixels are {values.dtype}, neither uint8 nor uint16: give max_value=, the value that is white"
        )
    parts = np.nan_to_num(values.astype(np.float32) / np.float32(white), nan=0.0).clip(0, 1)
    scaled: np.ndarray = (parts * 255 + 0.5).astype(np.uint8)
    return scaled


def _blend_on_white(values: np.ndarray, is_premultiplied: bool) -> np.ndarray:
    colours, alpha = values[..., :-1], values[..., -1:]
    if alpha.min() == 255:  # nothing to blend
        return np.ascontiguousarray(colours)
    shown = colours.astype(np.uint16)  # products of two bytes do not fit a byte
    if not is_premultiplied:
        shown = (shown * alpha + 127) // 255
    mixed: np.ndarray = np.minimum(shown + (255 - alpha), 255).astype(np.uint8)
    return mixed


def to_channels(picture: np.ndarray, count: int) -> np.ndarray:
    """Return a picture [H, W, 1 or 3] with ``count`` channels, one or three."""
    if picture.shape[2] == count:
        return np.ascontiguousarray(picture)
    if count == 3:
        rgb: np.ndarray = cv2.merge([picture] * 3)
        return rgb
    grey: np.ndarray = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)[..., None]
    return grey


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Apply an orientation of EXIF or TIFF, 1 to 8, to an image [H, W] or [H, W, C]."""
    if orientation == 1:
        return picture
    turned: np.ndarray = cv2.transpose(picture) if orientation >= _FIRST_TRANSPOSED else picture
    flips = _FLIPS[orientation]
    turned = cv2.flip(turned, _FLIP_CODES[flips]) if any(flips) else turned
    return turned.reshape(*turned.shape[:2], *picture.shape[2:])  # OpenCV drops the axis of a single channel


def shown_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return height and width after the orientation is applied."""
    return (width, height) if orientation >= _FIRST_TRANSPOSED else (height, width)


def stored_window(
    window: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Map a window of the upright image to the window of the file that holds it.

    Args:
        window: top, left, height and width.
        size: height and width of the upright image.
        orientation: 1 to 8.
    """
    top, left, height, width = window
    flipped_rows, flipped_columns = _FLIPS[orientation]
    top = size[0] - top - height if flipped_rows else top
    left = size[1] - left - width if flipped_columns else left
    return (left, top, width, height) if orientation >= _FIRST_TRANSPOSED else (top, left, height, width)


def stored_affine(size: tuple[int, int], orientation: int) -> tuple[float, float, float, float, float, float]:
    """Return the affine map from points of the upright image to points of the file.

    The six numbers are a, b, c of x = a x' + b y' + c, then the same three for y.
    """
    flipped_rows, flipped_columns = _FLIPS[orientation]
    x = (-1.0, 0.0, float(size[1])) if flipped_columns else (1.0, 0.0, 0.0)
    y = (0.0, -1.0, float(size[0])) if flipped_rows else (0.0, 1.0, 0.0)
    return (*y, *x) if orientation >= _FIRST_TRANSPOSED else (*x, *y)
