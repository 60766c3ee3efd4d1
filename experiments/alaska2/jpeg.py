"""JPEG files as steganalysis reads them: pixels before they are rounded, and the quality from the tables."""

import io
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import jpeglib
import numpy as np
from PIL import Image

from assay.runner import BadImageError

QUALITIES = (75, 90, 95)
BLOCK = 8

# The inverse of the conversion in the JFIF specification, version 1.02, page 3; rows are R, G, B of Y, Cb, Cr.
_TO_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]], dtype=np.float32)


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        width: in pixels.
        height: in pixels.
        quality: one of ``QUALITIES``.
    """

    width: int
    height: int
    quality: int


def read_header(path: Path) -> Header:
    """Read size and quality; the pixels stay unread.

    Raises:
        BadImageError: the file is missing, no JPEG or not in colour, its sides are no multiples of 8, or its quality is
            none of ``QUALITIES``.
    """
    try:
        with Image.open(path) as image:
            return _header(path, image)
    except OSError as error:
        raise bad(path, error) from error


def read_rgb(path: Path) -> np.ndarray:
    """Decode a file without rounding, which would lose part of what was embedded.

    jpeglib is not made for threads: it ends the process where two of them read at once.

    Returns:
        [H, W, 3], float32, RGB from 0 to 1.

    Raises:
        BadImageError: as ``read_header``; the file is cut short or broken.
    """
    try:
        with Image.open(path) as image:
            _header(path, image)
            image.load()  # libjpeg, which jpeglib calls, fills up what is missing
        jpeg = jpeglib.read_dct(str(path))
        height, width = jpeg.height, jpeg.width
        planes = [decode(part, table) for part, table in coefficients(jpeg)]
    except OSError as error:
        raise bad(path, error) from error
    full = [_enlarge(plane, planes[0].shape)[:height, :width] for plane in planes]
    ycbcr = np.stack(full, axis=-1) - np.array([0, 128, 128], dtype=np.float32)
    rgb: np.ndarray = (ycbcr @ (_TO_RGB.T / 255)).clip(0, 1)
    return rgb


def coefficients(jpeg: jpeglib.DCTJPEG) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return of Y, Cb and Cr the quantized coefficients, [h, w, 8, 8] int16, and the quantization table, [8, 8]."""
    return [(part, jpeg.get_component_qt(index)) for index, part in enumerate((jpeg.Y, jpeg.Cb, jpeg.Cr))]


def decode(quantized: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the samples of one component, [8 h, 8 w] float32, about 0 to 255; see ``coefficients``."""
    basis = dct_basis()
    blocks = basis.T @ (quantized * table.astype(np.float32)) @ basis
    high, wide = BLOCK * quantized.shape[0], BLOCK * quantized.shape[1]
    samples: np.ndarray = blocks.transpose(0, 2, 1, 3).reshape(high, wide) + np.float32(128)
    return samples


@lru_cache
def dct_basis() -> np.ndarray:
    """Return the orthonormal DCT-II of 8 samples, [8, 8] float32: rows are frequencies."""
    place = np.arange(BLOCK)
    basis = np.cos(np.pi / BLOCK * np.outer(place, place + 0.5)) * np.sqrt(2 / BLOCK)
    basis[0] /= np.sqrt(2)
    rounded: np.ndarray = basis.astype(np.float32)
    return rounded


def bad(path: str | os.PathLike[str], reason: object) -> BadImageError:
    """Return the error for a file, in one line."""
    return BadImageError(" ".join(f"image {os.fspath(path)!r} cannot be used: {reason}".split()))


def _header(path: Path, image: Image.Image) -> Header:
    if image.format != "JPEG":
        raise bad(path, f"it is {image.format}, not JPEG")
    if image.mode != "RGB":
        raise bad(path, f"its mode is {image.mode}, not three components in colour")
    if image.width % BLOCK or image.height % BLOCK:
        raise bad(path, f"its sides are no multiples of {BLOCK}: {image.width} x {image.height} pixels")
    table = tuple(image.quantization[0])  # type: ignore[attr-defined]
    if table not in _tables():
        qualities = ", ".join(map(str, QUALITIES))
        raise bad(path, f"its quantization table is none of the qualities {qualities}")
    return Header(image.width, image.height, _tables()[table])


@lru_cache
def _tables() -> dict[tuple[int, ...], int]:
    """Return the quality that each table for luminance stands for; libjpeg makes them."""
    found = {}
    for quality in QUALITIES:
        file = io.BytesIO()
        Image.new("RGB", (BLOCK, BLOCK)).save(file, "JPEG", quality=quality)
        found[tuple(Image.open(file).quantization[0])] = quality  # type: ignore[attr-defined]
    return found


def _enlarge(plane: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Repeat samples of a component that has fewer of them than luminance."""
    factors = [-(-side // own) for side, own in zip(shape, plane.shape, strict=True)]
    return plane.repeat(factors[0], axis=0).repeat(factors[1], axis=1)
