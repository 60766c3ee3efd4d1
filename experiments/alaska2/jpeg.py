"""JPEG files as steganalysis reads them: pixels before they are rounded, and the quality from the tables."""

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import jpeglib
import numpy as np
from PIL import Image

from assay.runner import BadImageError, bad_image_errors

QUALITIES = (75, 90, 95)
BLOCK = 8

# The inverse of the conversion in the JFIF specification, version 1.02, page 3; rows are R, G, B of Y, Cb, Cr.
_RGB = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]) / 255
_TO_RGB = np.column_stack([_RGB, -_RGB @ [0, 128, 128]])
_END = b"\xff\xd9"


@dataclass(frozen=True)
class Header:
    """What the header of a file declares.

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
    with bad_image_errors(path), _usable(path), Image.open(path) as image:
        return _header(path, image)


def read_rgb(path: Path) -> np.ndarray:
    """Return the pixels of ``read_jpeg``."""
    return read_jpeg(path)[1]


def read_jpeg(path: Path) -> tuple[Header, np.ndarray]:
    """Decode a file without rounding, which would lose part of what was embedded.

    jpeglib is not made for threads: it ends the process where two of them read at once.

    Returns:
        What ``read_header`` does, and the pixels: [H, W, 3], float32, RGB from 0 to 1.

    Raises:
        BadImageError: as ``read_header``; the file is cut short or broken.
    """
    with bad_image_errors(path), _usable(path):
        with Image.open(path) as image:
            header = _header(path, image)
            jpeg = jpeglib.read_dct(str(path))
            if _END not in jpeg.content[-16:]:
                image.load()  # libjpeg, which jpeglib calls, fills up what is missing
        planes = [decode(part, table) for part, table in coefficients(jpeg)]
    full = [_enlarge(plane, planes[0].shape)[: header.height, : header.width] for plane in planes]
    rgb: np.ndarray = cv2.transform(cv2.merge(full), _TO_RGB)
    return header, np.clip(rgb, 0, 1, out=rgb)


def coefficients(jpeg: jpeglib.DCTJPEG) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return of Y, Cb and Cr the quantized coefficients, [h, w, 8, 8] int16, and the quantization table, [8, 8]."""
    return [(part, jpeg.get_component_qt(index)) for index, part in enumerate((jpeg.Y, jpeg.Cb, jpeg.Cr))]


def decode(quantized: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Return the samples of one component, [8 h, 8 w] float32, about 0 to 255; see ``coefficients``."""
    basis = dct_basis()
    high, wide = quantized.shape[:2]
    # A product for each row of blocks: one for each block takes longer, and with one for all BLAS would start threads.
    rows = np.ascontiguousarray(quantized.transpose(0, 2, 1, 3)) * table.astype(np.float32)[:, None]
    rows = rows.reshape(high, BLOCK * wide, BLOCK) @ basis
    samples: np.ndarray = (basis.T @ rows.reshape(high, BLOCK, wide * BLOCK)).reshape(high * BLOCK, wide * BLOCK)
    samples += 128
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


@contextlib.contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, Image.DecompressionBombError) as error:
        raise bad(path, error) from error


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
    if plane.shape == shape:
        return plane
    factors = [-(-side // own) for side, own in zip(shape, plane.shape, strict=True)]
    return plane.repeat(factors[0], axis=0).repeat(factors[1], axis=1)
