"""Images of any size, read and written by windows, so that memory does not grow with them."""

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .images import BadImageError, read_image

CACHE_BYTES = 256 * 2**20
"""Decoded blocks that GDAL keeps, all open files together; its own bound is 5% of the machine's memory."""

KEPT_OPEN, KEPT_BYTES = 256, 64 * 2**20
"""TIFF files that ``keep_open`` keeps open at most, and their decoded blocks: of each worker of a loader."""

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OPTIONS = {"GDAL_CACHEMAX": CACHE_BYTES, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
_HIGH_BYTE = 256
_FAULTS = (RasterioError, CPLE_BaseError)  # GDAL's own errors come through here and there


class OpenImage(Protocol):
    """An image that is read by windows."""

    height: int
    width: int

    @property
    def georeference(self) -> Mapping[str, Any]:
        """Where the image lies on the earth, as ``write_mask`` takes it; empty where that is unknown."""
        ...

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window that lies within the image, [height, width, 3] uint8 RGB."""
        ...


@contextlib.contextmanager
def open_image(path: str | os.PathLike[str]) -> Iterator[OpenImage]:
    """Open an image to read windows of it.

    A TIFF, tiled or striped, of any compression that GDAL knows, is decoded where it is read: the blocks that a window
    touches, of which ``CACHE_BYTES`` are kept; where a single block takes half of that, the image is decoded whole. So
    is any other format, by ``read_image``. Of 16 bits the upper 8 are kept, grey and palettes become RGB, transparency
    and further bands are dropped.

    Args:
        path: the file.

    Raises:
        BadImageError: it cannot be read; this may show at a ``read`` only.
    """
    if not _is_tiff(path):
        yield _WholeImage(read_image(path))
        return
    with rasterio.Env(**_OPTIONS):
        image = _open_tiff(path)
        with image.dataset:
            yield _whole_if_one_block(image)


def keep_open(path: str | os.PathLike[str]) -> OpenImage:
    """Return an image as ``open_image`` does, for a reader that comes back: opening costs more than a small window.

    Of the TIFF files that it returned, each process and thread has its own, and the last ``KEPT_OPEN`` stay open. One
    that has changed since is opened anew.

    Args:
        path: the file.

    Raises:
        BadImageError: it cannot be read; this may show at a ``read`` only.
    """
    if not _is_tiff(path):
        return _WholeImage(read_image(path))
    status = os.stat(path)
    version = (status.st_mtime_ns, status.st_size, status.st_ino)
    return _whole_if_one_block(_kept_tiff(os.fspath(path), version, os.getpid(), threading.get_ident()))


@lru_cache(KEPT_OPEN)
def _kept_tiff(path: str, version: tuple[int, ...], process: int, thread: int) -> "_Tiff":
    with rasterio.Env(**_OPTIONS | {"GDAL_CACHEMAX": KEPT_BYTES}):  # the bound stays when the block is left
        return _open_tiff(path)


def _open_tiff(path: str | os.PathLike[str]) -> "_Tiff":
    with _quietly(), _named_errors(path):
        dataset = DatasetReader(os.fspath(path))  # rasterio.open would look for credentials first
    return _Tiff(dataset, path)


def _whole_if_one_block(image: "_Tiff") -> OpenImage:
    """Decode an image whose blocks are too large to be kept, which would be decoded anew for each window."""
    if image.block_bytes <= CACHE_BYTES // 2:
        return image
    return _WholeImage(image.read(0, 0, image.height, image.width), image.georeference)


class _WholeImage:
    def __init__(self, image: np.ndarray, georeference: Mapping[str, Any] | None = None):
        self.image = image
        self.height, self.width = image.shape[:2]
        self.georeference: Mapping[str, Any] = georeference or {}

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        _check_window(self, top, left, height, width)
        return self.image[top : top + height, left : left + width]


class _Tiff:
    def __init__(self, dataset: Any, path: str | os.PathLike[str]):
        self.dataset = dataset
        self.path = path
        self.height, self.width = int(dataset.height), int(dataset.width)
        if dataset.dtypes[0] not in ("uint8", "uint16"):
            raise _bad(path, f"its pixels are {dataset.dtypes[0]}, neither uint8 nor uint16")
        self.block_bytes = math.prod(dataset.block_shapes[0]) * dataset.count * (1 + (dataset.dtypes[0] == "uint16"))
        has_palette = dataset.colorinterp[0] == ColorInterp.palette
        self.palette = _palette(dataset.colormap(1)) if has_palette else None
        self.is_bilevel = dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") == "1"
        self.bands = [1, 2, 3] if dataset.count >= 3 else [1]

    @property
    def georeference(self) -> Mapping[str, Any]:
        crs, transform = self.dataset.crs, self.dataset.transform
        return {} if crs is None and transform.is_identity else {"crs": crs, "transform": transform}

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        _check_window(self, top, left, height, width)
        with _named_errors(self.path):
            bands: np.ndarray = self.dataset.read(self.bands, window=Window(left, top, width, height))
        if bands.dtype == np.uint16 and self.palette is None:
            bands = (bands // _HIGH_BYTE).astype(np.uint8)
        if self.palette is not None:
            colours: np.ndarray = self.palette[bands[0]]
            return colours
        if self.is_bilevel:
            bands = bands * np.uint8(255)
        image: np.ndarray = cv2.merge([*bands] if len(bands) == 3 else [*bands] * 3)
        return image


def _palette(colours: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    table = np.zeros((max(256, *colours) + 1, 3), dtype=np.uint8)
    for value, colour in colours.items():
        table[value] = colour[:3]
    return table


@contextlib.contextmanager
def write_mask(
    path: str | os.PathLike[str],
    height: int,
    width: int,
    *,
    palette: np.ndarray | None = None,
    georeference: Mapping[str, Any] | None = None,
) -> Iterator["MaskWriter"]:
    """Write a mask as a compressed TIFF, in bands of rows from the top; it is whole when the block ends.

    Args:
        path: the file; one that is there is replaced.
        height: rows in all.
        width: of a row.
        palette: colours of the values, [n, 3] uint8; None: the values are grey.
        georeference: where it lies on the earth, see ``OpenImage``.

    Raises:
        OSError: it cannot be written.
    """
    options = {"driver": "GTiff", "compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
    shape = {"height": height, "width": width, "count": 1, "dtype": "uint8", "bigtiff": "if_safer"}
    Path(path).unlink(missing_ok=True)  # GDAL would open it first
    with rasterio.Env(**_OPTIONS):
        with _quietly(), _write_errors(path):
            dataset = rasterio.open(os.fspath(path), "w", **options, **shape, **(georeference or {}))
        with dataset:
            if palette is not None:
                dataset.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(palette.tolist())})
            yield MaskWriter(dataset, path)
        _check_written(path)


class MaskWriter:
    """Takes the rows of a mask; ``write_mask`` makes it."""

    def __init__(self, dataset: Any, path: str | os.PathLike[str]):
        self._dataset = dataset
        self._path = path
        self._next_row = 0

    def write(self, rows: np.ndarray) -> None:
        """Add rows, [h, width] uint8, below those before."""
        window = Window(0, self._next_row, rows.shape[1], rows.shape[0])
        with _write_errors(self._path):
            self._dataset.write(rows, 1, window=window)
        self._next_row += rows.shape[0]


def _check_written(path: str | os.PathLike[str]) -> None:
    """Read all blocks: GDAL keeps it to itself when the disk is full as it writes the last ones."""
    with _quietly(), _write_errors(path), rasterio.open(os.fspath(path)) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(1, window=window)


def _is_tiff(path: str | os.PathLike[str]) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) in _TIFF_STARTS
    except OSError as error:
        raise _bad(path, error.strerror or str(error)) from error


def _check_window(image: OpenImage, top: int, left: int, height: int, width: int) -> None:
    inside = 0 <= top <= top + height <= image.height and 0 <= left <= left + width <= image.width
    if not inside or min(height, width) < 1:
        window = f"top {top}, left {left}, {height} x {width}"
        raise ValueError(f"a window must lie within the image of {image.height} x {image.width}, got {window}.")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Leave out the warning that an image does not lie on the earth, and GDAL's remarks on odd tags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def _named_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise _bad(path, _reason(error)) from error


@contextlib.contextmanager
def _write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except _FAULTS as error:
        raise OSError(f"mask {os.fspath(path)!r} cannot be written: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return str(error.__cause__ or error)


def _bad(path: str | os.PathLike[str], reason: str) -> BadImageError:
    line = f"image {os.fspath(path)!r} cannot be read: {reason}"
    return BadImageError(" ".join(line.split()))
