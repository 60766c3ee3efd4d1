"""Read images and write masks window by window, with memory independent of their size."""

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

from .image_errors import bad_image_errors, check_max_value
from .image_headers import TIFF_STARTS
from .images import read_image
from .mask_files import read_mask, tiff_numbers
from .tiffs import (
    CACHE_BYTES,
    FAULTS,
    GDAL_OPTIONS,
    Tiff,
    check_window,
    ignore_gdal_remarks,
    is_utf8,
    open_tiff,
    reason_of,
)

KEPT_OPEN, KEPT_BYTES = 256, 64 * 2**20
"""How many TIFF files ``keep_open`` keeps open, and bytes of decoded blocks, in each loader worker."""


class OpenImage(Protocol):
    """An image that can be read by windows."""

    height: int
    width: int

    @property
    def georeference(self) -> Mapping[str, Any]:
        """The georeference of the image, as ``write_mask`` takes it; empty where it has none."""
        ...

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window within the image, [height, width, 3] uint8 RGB; of a mask [height, width]."""
        ...


@contextlib.contextmanager
def open_image(path: str | os.PathLike[str], *, max_value: float | None = None) -> Iterator[OpenImage]:
    """Open an image to read windows of the pixels that ``read_image`` returns.

    Of a TIFF, tiled or striped, with any compression that GDAL knows, only the blocks that a window touches are
    decoded, and ``CACHE_BYTES`` of them are cached. An image is decoded whole where one of its blocks takes more than
    half of that, and in any other format.

    Args:
        path: the file.
        max_value: see ``read_image``.

    Raises:
        BadImageError: it cannot be read; a broken block shows only when ``read`` reaches it.
        UsageError: ``max_value`` is not greater than 0.
    """
    if not _is_tiff(path):
        yield _WholeImage(read_image(path, max_value=max_value))
        return
    with rasterio.Env(**GDAL_OPTIONS):
        image = open_tiff(path, max_value)
        with image.dataset:
            yield _whole_if_one_block(image)


def keep_open(path: str | os.PathLike[str], *, max_value: float | None = None) -> OpenImage:
    """Return an image as ``open_image`` does, and keep it open for the next call.

    Opening a TIFF costs more than reading a small window. Each process and thread keeps the last ``KEPT_OPEN`` files of
    its own open. A file that has changed is opened again.

    Args:
        path: the file.
        max_value: see ``read_image``.

    Raises:
        BadImageError: it cannot be read; a broken block shows only when ``read`` reaches it.
        UsageError: ``max_value`` is not greater than 0.
    """
    if not _is_tiff(path):
        return _WholeImage(read_image(path, max_value=max_value))
    check_max_value(max_value)
    image = _keep_tiff(path, max_value)
    image.check_pixels()
    return _whole_if_one_block(image)


def keep_mask_open(path: str | os.PathLike[str]) -> OpenImage:
    """Return a mask as ``keep_open`` returns an image; its windows hold what ``read_mask`` returns.

    Raises:
        BadImageError: it cannot be read, or does not hold class numbers; this may show only at a ``read``.
    """
    if not _is_tiff(path):
        return _WholeImage(read_mask(path))
    return _MaskWindows(_keep_tiff(path))


def _keep_tiff(path: str | os.PathLike[str], max_value: float | None = None) -> Tiff:
    # Part of the cache's key: what tells that a file was replaced, and process and thread, as a GDAL handle must not be
    # shared between threads nor inherited by a forked worker.
    status = os.stat(path)
    version = (status.st_mtime_ns, status.st_size, status.st_ino)
    return _open_kept_tiff(os.fspath(path), max_value, version, os.getpid(), threading.get_ident())


@lru_cache(KEPT_OPEN)
def _open_kept_tiff(path: str, max_value: float | None, version: tuple[int, ...], process: int, thread: int) -> Tiff:
    # GDAL keeps this limit when the block is left, and reads happen later.
    with rasterio.Env(**GDAL_OPTIONS | {"GDAL_CACHEMAX": KEPT_BYTES}):
        return Tiff(path, max_value)


def _whole_if_one_block(image: Tiff) -> OpenImage:
    # Blocks too large for the cache would be decoded again for each window.
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
    """Write a mask as a compressed TIFF, in bands of rows from the top; it is complete when the block ends.

    Args:
        path: the file; an existing one is replaced.
        height: number of rows.
        width: length of a row.
        palette: colours of the values, [n, 3] uint8; None: the values are grey levels.
        georeference: see ``OpenImage``.

    Raises:
        OSError: it cannot be written.
    """
    options = {"driver": "GTiff", "compress": "deflate", "tiled": True, "blockxsize": 256, "blockysize": 256}
    shape = {"height": height, "width": width, "count": 1, "dtype": "uint8", "bigtiff": "if_safer"}
    Path(path).unlink(missing_ok=True)  # GDAL would open an existing file first
    with rasterio.Env(**GDAL_OPTIONS), _name_for_gdal(path) as name:
        with _write_errors(path):
            dataset = _opened(name, "w", **options, **shape, **(georeference or {}))
        with dataset:
            if palette is not None:
                dataset.write_colormap(1, {value: (*colour, 255) for value, colour in enumerate(palette.tolist())})
            yield MaskWriter(dataset, path)
        _check_written(path, name)


class MaskWriter:
    """Writes the rows of a mask; ``write_mask`` creates it."""

    def __init__(self, dataset: Any, path: str | os.PathLike[str]):
        self._dataset = dataset
        self._path = path
        self._next_row = 0

    def write(self, rows: np.ndarray) -> None:
        """Append rows, [h, width] uint8, below the rows written before."""
        window = Window(0, self._next_row, rows.shape[1], rows.shape[0])
        with _write_errors(self._path):
            self._dataset.write(rows, 1, window=window)
        self._next_row += rows.shape[0]


def _check_written(path: str | os.PathLike[str], name: str) -> None:
    # GDAL does not report a full disk while it flushes the last blocks on closing: only reading them back tells.
    with _write_errors(path), _opened(name) as dataset:
        for _, window in dataset.block_windows(1):
            dataset.read(1, window=window)


def _opened(name: str, *arguments: str, **options: Any) -> Any:
    with ignore_gdal_remarks():
        return rasterio.open(name, *arguments, **options)


@contextlib.contextmanager
def _name_for_gdal(path: str | os.PathLike[str]) -> Iterator[str]:
    """Yield a name of a file that GDAL accepts: names that are not UTF-8 are replaced while it is written."""
    if is_utf8(os.fspath(path)):
        yield os.fspath(path)
        return
    folder, name = os.path.split(os.path.abspath(path))
    safe = f".{zlib.crc32(os.fsencode(name)):08x}.{os.getpid()}.gdal.tmp"
    # By a descriptor, as the folder's own name need not be UTF-8 either.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{descriptor}/{safe}"
        os.replace(safe, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(safe, dir_fd=descriptor)
        os.close(descriptor)


def _is_tiff(path: str | os.PathLike[str]) -> bool:
    with bad_image_errors(path), open(path, "rb") as file:
        return file.read(4) in TIFF_STARTS


@contextlib.contextmanager
def _write_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except FAULTS as error:
        raise OSError(f"mask {os.fspath(path)!r} cannot be written: {reason_of(error)}") from error
