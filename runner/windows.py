"""Images of any size, read and written by windows, so that memory does not grow with them."""

import contextlib
import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import rasterio
from rasterio.windows import Window

from .image_headers import TIFF_STARTS
from .images import bad_image_errors, check_max_value, read_image
from .mask_files import read_mask, tiff_numbers
from .tiffs import FAULTS, Tiff, check_window, is_utf8, quietly, reason_of
from .whole_images import check_size

CACHE_BYTES = 256 * 2**20
"""Decoded blocks that GDAL keeps, all open files together; its own bound is 5% of the machine's memory."""

KEPT_OPEN, KEPT_BYTES = 256, 64 * 2**20
"""TIFF files that ``keep_open`` keeps open at most, and their decoded blocks: of each worker of a loader."""

_OPTIONS = {"GDAL_CACHEMAX": CACHE_BYTES, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}


class OpenImage(Protocol):
    """An image that is read by windows."""

    height: int
    width: int

    @property
    def georeference(self) -> Mapping[str, Any]:
        """Where the image lies on the earth, as ``write_mask`` takes it; empty where that is unknown."""
        ...

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window that lies within the image, [height, width, 3] uint8 RGB; of a mask [height, width]."""
        ...


@contextlib.contextmanager
def open_image(path: str | os.PathLike[str], *, max_value: float | None = None) -> Iterator[OpenImage]:
    """Open an image to read windows of it: of the pixels that ``read_image`` returns.

    A TIFF, tiled or striped, of any compression that GDAL knows, is decoded where it is read: the blocks that a window
    touches, of which ``CACHE_BYTES`` are kept; where a single block takes half of that, the image is decoded whole. So
    is any other format.

    Args:
        path: the file.
        max_value: see ``read_image``.

    Raises:
        BadImageError: it cannot be read; this may show at a ``read`` only.
        UsageError: ``max_value`` is not greater than 0.
    """
    if not _is_tiff(path):
        yield _WholeImage(read_image(path, max_value=max_value))
        return
    with rasterio.Env(**_OPTIONS):
        image = _open_tiff(path, max_value)
        with image.dataset:
            yield _whole_if_one_block(image)


def read_tiff(path: str | os.PathLike[str], max_value: float | None) -> np.ndarray:
    """Return a whole TIFF, [H, W, 3] uint8 RGB; see ``read_image``."""
    with open_image(path, max_value=max_value) as image:
        with bad_image_errors(path):
            check_size(image.height, image.width)
        return image.read(0, 0, image.height, image.width)


def keep_open(path: str | os.PathLike[str], *, max_value: float | None = None) -> OpenImage:
    """Return an image as ``open_image`` does, for a reader that comes back: opening costs more than a small window.

    Of the TIFF files that it returned, each process and thread has its own, and the last ``KEPT_OPEN`` stay open. One
    that has changed since is opened anew.

    Args:
        path: the file.
        max_value: see ``read_image``.

    Raises:
        BadImageError: it cannot be read; this may show at a ``read`` only.
        UsageError: ``max_value`` is not greater than 0.
    """
    if not _is_tiff(path):
        return _WholeImage(read_image(path, max_value=max_value))
    check_max_value(max_value)
    image = _kept(path, max_value)
    image.check_pixels()
    return _whole_if_one_block(image)


def keep_mask_open(path: str | os.PathLike[str]) -> OpenImage:
    """Return a mask, as ``keep_open`` does an image: its windows are those of what ``read_mask`` returns.

    Raises:
        BadImageError: it cannot be read, or does not hold class numbers; this may show at a ``read`` only.
    """
    if not _is_tiff(path):
        return _WholeImage(read_mask(path))
    return _MaskWindows(_kept(path))


def _kept(path: str | os.PathLike[str], max_value: float | None = None) -> Tiff:
    status = os.stat(path)
    version = (status.st_mtime_ns, status.st_size, status.st_ino)
    return _kept_tiff(os.fspath(path), max_value, version, os.getpid(), threading.get_ident())


@lru_cache(KEPT_OPEN)
def _kept_tiff(path: str, max_value: float | None, version: tuple[int, ...], process: int, thread: int) -> Tiff:
    with rasterio.Env(**_OPTIONS | {"GDAL_CACHEMAX": KEPT_BYTES}):  # the bound stays when the block is left
        return Tiff(path, max_value)


def _open_tiff(path: str | os.PathLike[str], max_value: float | None) -> Tiff:
    check_max_value(max_value)
    image = Tiff(path, max_value)
    image.check_pixels()
    return image


def _whole_if_one_block(image: Tiff) -> OpenImage:
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
        check_window(self.image.shape, top, left, height, width)
        return self.image[top : top + height, left : left + width]


class _MaskWindows:
    def __init__(self, image: Tiff):
        self.image = image
        self.height, self.width = image.height, image.width
        self.georeference = image.georeference

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        return tiff_numbers(self.image, (top, left, height, width))


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
    with rasterio.Env(**_OPTIONS), _named_for_gdal(path) as name:
        with quietly(), _write_errors(path):
            dataset = rasterio.open(name, "w", **options, **shape, **(georeference or {}))
        with dataset:
            if palette is not None:
                dataset.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(palette.tolist())})
            yield MaskWriter(dataset, path)
        _check_written(path, name)


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


def _check_written(path: str | os.PathLike[str], name: str) -> None:
    """Read all blocks: GDAL keeps it to itself when the disk is full as it writes the last ones."""
    with quietly(), _write_errors(path), rasterio.open(name) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(1, window=window)


@contextlib.contextmanager
def _named_for_gdal(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give a name for a file to GDAL, which takes none that is not UTF-8: through the open folder it lies in."""
    if is_utf8(os.fspath(path)):
        yield os.fspath(path)
        return
    folder, name = os.path.split(os.path.abspath(path))
    safe = f".{zlib.crc32(os.fsencode(name)):08x}.{os.getpid()}.gdal.tmp"
    place = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{place}/{safe}"
        os.replace(safe, name, src_dir_fd=place, dst_dir_fd=place)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(safe, dir_fd=place)
        os.close(place)


def _is_tiff(path: str | os.PathLike[str]) -> bool:
    with bad_image_errors(path), open(path, "rb") as file:
        return file.read(4) in TIFF_STARTS


@contextlib.contextmanager
def _write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        raise OSError(f"mask {os.fspath(path)!r} cannot be written: {reason_of(error)}") from error
