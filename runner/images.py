"""Read image files as 8-bit RGB, and the error for files that cannot be read."""

import contextlib
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from assay.callbacks.errors import UsageError

from .image_headers import TIFF_STARTS
from .one_line_error import OneLineError
from .pixels import Pixels, to_bytes, to_channels, upright
from .whole_images import decode

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".tif", ".tiff", ".bmp", ".dib", ".webp", ".gif", ".heic",
    ".heif", ".avif", ".jp2", ".j2k", ".jpx", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".tga",
)  # fmt: skip
"""Suffixes of image files: each is read, or reported as unreadable."""

# A byte shared with forked loader workers, so that all of them together warn once.
_depth_warned = mmap.mmap(-1, 1)


class BadImageError(OneLineError):
    """An image file that cannot be read: names the file, the reason and, where it is known, the sample."""


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
    """
    check_max_value(max_value)
    data = read_file(path)
    if data[:4] in TIFF_STARTS:
        from .windows import read_tiff  # GDAL is slow to import

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


def check_max_value(max_value: float | None) -> None:
    """Raise a UsageError where ``max_value`` is not greater than 0."""
    if max_value is not None and not max_value > 0:
        raise UsageError(f"max_value must be greater than 0, got {max_value}.")


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


def warn_assumed_depth(path: str | os.PathLike[str], pixels: Pixels, max_value: float | None) -> None:
    """Warn once per run that 65535 is taken as white, where a 16-bit file does not declare how many bits it uses."""
    is_assumed = pixels.values.dtype == np.uint16 and pixels.lacks_white and max_value is None
    if is_assumed and not _depth_warned[0] and os.environ.get("RANK", "0") == "0":
        _depth_warned[0] = 1
        tqdm.write(
            f"assay: image {os.fspath(path)!r} has 16 bits per sample and does not declare how many it uses: 65535 is "
            "taken as white. If white is less, such as 4095 of 12 bits, give max_value=.",
            file=sys.stderr,
        )


@contextlib.contextmanager
def bad_image_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever a decoder raises into a BadImageError that names the file."""
    try:
        yield
    except (BadImageError, UsageError):
        raise
    except cv2.error as error:
        raise bad_image(path, error.err) from error
    except OSError as error:
        raise bad_image(path, error.strerror or str(error)) from error
    except ValueError as error:
        raise bad_image(path, str(error)) from error
    except Exception as error:  # on broken bytes a decoder raises anything
        raise bad_image(path, f"{type(error).__name__}: {error}") from error


def bad_image(path: str | os.PathLike[str], reason: str) -> BadImageError:
    """Return the error for a file, as one line."""
    line = f"image {os.fspath(path)!r} cannot be read: {reason}"
    return BadImageError(" ".join(line.split()))
