"""From samples as a file stores them to the picture that a viewer shows: 8 bits, on white, upright."""

from dataclasses import dataclass

import cv2
import numpy as np

_FLIPS = {
    1: (False, False), 2: (False, True), 3: (True, True), 4: (True, False),
    5: (False, False), 6: (False, True), 7: (True, True), 8: (True, False),
}  # fmt: skip
_TURNED = 5  # from here on, rows and columns change places before they are flipped
_CODES = {(True, False): 0, (False, True): 1, (True, True): -1}  # of cv2.flip


@dataclass(frozen=True)
class Pixels:
    """Samples of an image.

    Attributes:
        values: [H, W, C] of any kind of number: grey or RGB, and alpha after them.
        white: the largest value that a sample may have, as the file declares it; None: it does not.
        has_alpha: whether the last channel says how opaque a pixel is.
        is_premultiplied: whether the colours are multiplied by alpha already.
    """

    values: np.ndarray
    white: int | None = None
    has_alpha: bool = False
    is_premultiplied: bool = False

    @property
    def lacks_white(self) -> bool:
        """Whether the largest value is not declared, and does not follow from the kind of number."""
        return self.white is None and self.values.dtype != np.uint8


def to_bytes(pixels: Pixels, max_value: float | None = None) -> np.ndarray:
    """Return the picture on white, [H, W, 1 or 3] uint8, as it lies in the file.

    Args:
        pixels: the samples.
        max_value: the value that is white, where the file does not declare it; None: of 16 bits all count.

    Raises:
        ValueError: they are neither uint8 nor uint16, and there is no ``max_value``.
    """
    white = max_value if pixels.lacks_white else pixels.white
    values = pixels.values if white is None and pixels.values.dtype == np.uint8 else _scaled(pixels.values, white)
    return _on_white(values, pixels.is_premultiplied) if pixels.has_alpha else values


def _scaled(values: np.ndarray, white: float | None) -> np.ndarray:
    if values.dtype not in (np.uint8, np.uint16):
        return _scaled_numbers(values, white)
    white = 65535 if white is None else white
    bits = int(white).bit_length()
    if white != 2**bits - 1 or bits < 8:
        return _scaled_numbers(values, white)
    scaled: np.ndarray = (np.minimum(values, np.uint16(white)) >> np.uint16(bits - 8)).astype(np.uint8)
    return scaled


def _scaled_numbers(values: np.ndarray, white: float | None) -> np.ndarray:
    if white is None:
        raise ValueError(
            f"its pixels are {values.dtype}, neither uint8 nor uint16: give max_value=, the value that is white"
        )
    parts = np.nan_to_num(values.astype(np.float32) / np.float32(white), nan=0.0).clip(0, 1)
    scaled: np.ndarray = (parts * 255 + 0.5).astype(np.uint8)
    return scaled


def _on_white(values: np.ndarray, is_premultiplied: bool) -> np.ndarray:
    colours, alpha = values[..., :-1], values[..., -1:]
    if alpha.min() == 255:
        return np.ascontiguousarray(colours)
    shown = colours.astype(np.uint16)
    if not is_premultiplied:
        shown = (shown * alpha + 127) // 255
    mixed: np.ndarray = np.minimum(shown + (255 - alpha), 255).astype(np.uint8)
    return mixed


def to_channels(picture: np.ndarray, count: int) -> np.ndarray:
    """Return a picture [H, W, 1 or 3] with one channel or three."""
    if picture.shape[2] == count:
        return np.ascontiguousarray(picture)
    if count == 3:
        rgb: np.ndarray = cv2.merge([picture] * 3)
        return rgb
    grey: np.ndarray = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)[..., None]
    return grey


def upright(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image [H, W] or [H, W, C] as it is shown, by its orientation in EXIF or TIFF, 1 to 8."""
    if orientation == 1:
        return picture
    turned: np.ndarray = cv2.transpose(picture) if orientation >= _TURNED else picture
    flips = _FLIPS[orientation]
    turned = cv2.flip(turned, _CODES[flips]) if any(flips) else turned
    return turned.reshape(*turned.shape[:2], *picture.shape[2:])  # of a single channel OpenCV drops the axis


def shown_size(height: int, width: int, orientation: int) -> tuple[int, int]:
    """Return height and width of an image as it is shown."""
    return (width, height) if orientation >= _TURNED else (height, width)


def stored_window(
    window: tuple[int, int, int, int], size: tuple[int, int], orientation: int
) -> tuple[int, int, int, int]:
    """Return where a window of the image as it is shown lies in the file.

    Args:
        window: top, left, height and width.
        size: height and width of the image as it is shown.
        orientation: 1 to 8.
    """
    top, left, height, width = window
    flipped_rows, flipped_columns = _FLIPS[orientation]
    top = size[0] - top - height if flipped_rows else top
    left = size[1] - left - width if flipped_columns else left
    return (left, top, width, height) if orientation >= _TURNED else (top, left, height, width)


def stored_place(size: tuple[int, int], orientation: int) -> tuple[float, float, float, float, float, float]:
    """Return the affine map from a point of the image as shown to that of the file: x = a x' + b y' + c, then y's."""
    flipped_rows, flipped_columns = _FLIPS[orientation]
    x = (-1.0, 0.0, float(size[1])) if flipped_columns else (1.0, 0.0, 0.0)
    y = (0.0, -1.0, float(size[0])) if flipped_rows else (0.0, 1.0, 0.0)
    return (*y, *x) if orientation >= _TURNED else (*x, *y)
