"""Reading image files, and the error for one that cannot be read."""

import io
import os

import cv2
import numpy as np
from PIL import Image

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


class BadImageError(RuntimeError):
    """An image file that cannot be read: one line with the file, the reason and, where it is known, the sample.

    Args:
        message: the line. Of the text that torch makes of an error in a loader worker, the last line is taken.
    """

    def __init__(self, message: str):
        *traceback, own = message.strip().splitlines()
        super().__init__(own.removeprefix(f"{type(self).__module__}.{type(self).__qualname__}: "))
        if traceback:
            self.add_note(message)


def read_image(path: str | os.PathLike[str], *, grey: bool = False) -> np.ndarray:
    """Read an image file of any kind that OpenCV knows.

    It is turned as its EXIF orientation says, so that it stands as a viewer shows it. Of 16 bits the upper 8 are kept;
    transparency is dropped. A changed byte inside a JPEG goes unnoticed, as the format has no checksum.

    Args:
        path: the file.
        grey: whether one channel is wanted instead of RGB.

    Returns:
        [H, W, 3], or [H, W, 1] if ``grey``; uint8.

    Raises:
        BadImageError: the file is missing, empty, cut short, or no image.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error
    if not data:
        raise _bad(path, "it is empty")
    if data.startswith(_JPEG_START) and _JPEG_END not in data[-16:]:
        _check_whole(path, data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise _bad(path, error.err) from error
    if image is None:
        raise _bad(path, f"its {len(data)} bytes are no whole image of a kind that OpenCV knows")
    decoded: np.ndarray = image[..., None] if grey else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return decoded


def _check_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Raise where a JPEG is cut short: OpenCV before 5 fills it up with grey and says nothing."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except OSError as error:
        raise _bad(path, f"{error}; it has {len(data)} bytes") from error


def _bad(path: str | os.PathLike[str], reason: str) -> BadImageError:
    line = f"image {os.fspath(path)!r} cannot be read: {reason}"
    return BadImageError(" ".join(line.split()))
