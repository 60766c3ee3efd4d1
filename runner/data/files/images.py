"""Read image files as 8-bit RGB."""

import os
from pathlib import Path

import numpy as np

from assay.callbacks.errors import UsageError

from .image_errors import bad_image_errors, check_max_value, warn_assumed_depth
from .image_headers import TIFF_STARTS
from .pixels import to_bytes, to_channels, upright
from .whole_images import decode

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif", ".heic",
    ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
)  # fmt: skip
"""Suffixes of image files: each is read, or reported as unreadable."""


def read_image(path: str | os.PathLike[str], *, grey: bool = False, max_value: float | None = None) -> np.ndarray:
    """Read an image file as a viewer shows it; ``open_image`` reads windows of the same pixels.

    The orientation (EXIF, TIFF) is applied, and transparent pixels are shown on white. Bands beyond RGB, such as near
    infrared, are dropped; of an animation the first frame is kept. Pixels of more than 8 bits are scaled from the depth
    that the file declares (``sBIT`` of a PNG, bits or MaxSampleValue of a TIFF), else from ``max_value``, else from the
    full 16 bits, with a warning once per run. Colour profiles are not applied. A changed byte inside a JPEG, GIF, WebP
    or LZW TIFF goes unnoticed, because these formats have no checksum.

    Args:
        path: a file that OpenCV, Pillow or, for TIFF, GDAL can decode; HEIC needs ``pillow-heif``.
        grey: whether to return one channel instead of RGB.
        max_value: the value that is white in pixels of more than 8 bits, such as 4095 for 12 bits, or 1.0 for floats.

    Returns:
        [H, W, 3], or [H, W, 1] if ``grey``; uint8.

    Raises:
        BadImageError: the file is missing, empty, cut short, too large to be decoded whole (Pillow's
            ``MAX_IMAGE_PIXELS``), or no image; its pixels are neither uint8 nor uint16, and there is no ``max_value``.
        UsageError: ``max_value`` is not greater than 0.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGBA", (4, 3), (0, 0, 0, 0)).save(f"{folder}/clear.png")
        ...     image = read_image(f"{folder}/clear.png")
        >>> image.shape, image.dtype.name, image[0, 0].tolist()
        ((3, 4, 3), 'uint8', [255, 255, 255])
    """
    check_max_value(max_value)
    data = read_file(path)
    if data[:4] in TIFF_STARTS:
        from .tiffs import read_tiff  # GDAL is slow to import

        return to_channels(read_tiff(path, max_value), 1 if grey else 3)
    with bad_image_errors(path):
        pixels, orientation = decode(data, grey=grey)
        warn_assumed_depth(path, pixels, max_value)
        return upright(to_channels(to_bytes(pixels, max_value), 1 if grey else 3), orientation)


def images_in(folder: Path, *suffixes: str) -> list[Path]:
    """Return the files of a folder with one of the suffixes, sorted by name; none where there is no folder.

    Raises:
        UsageError: an image has another suffix, and would be left out.
    """
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    for path in paths:
        is_image = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        if is_image and path.suffix not in suffixes:
            raise UsageError(f"{path} would be left out: the images of {folder} must end in {' or '.join(suffixes)}.")
    return [path for path in paths if path.suffix in suffixes]


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file; of a TIFF only the first 4 bytes.

    Raises:
        BadImageError: it cannot be read, or is empty.
    """
    # GDAL opens a TIFF by itself, and it may be larger than the memory.
    with bad_image_errors(path), open(path, "rb") as file:
        start = file.read(4)
        if not start:
            raise ValueError("it is empty")
        return start if start in TIFF_STARTS else start + file.read()
