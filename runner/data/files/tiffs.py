"""Read windows of TIFF files with GDAL, which decodes only the blocks that a window touches."""

import contextlib
import math
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import rasterio
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, Compression
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from .image_errors import bad_image, bad_image_errors, check_max_value, warn_assumed_depth
from .image_headers import EXTRA_SAMPLES, MAX_SAMPLE, ORIENTATION, orientation_of, tiff_tags
from .pixels import Pixels, shown_size, stored_affine, stored_window, to_bytes, to_channels, upright
from .whole_images import check_size

CACHE_BYTES = 256 * 2**20
"""Bytes of decoded blocks that GDAL caches for all open files; its default is 5% of the machine's memory."""

# GDAL must neither list the folder on opening, which is slow on a network drive, nor write .aux.xml beside images.
GDAL_OPTIONS = {"GDAL_CACHEMAX": CACHE_BYTES, "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}

FAULTS = (RasterioError, CPLE_BaseError)  # rasterio does not wrap all of GDAL's own errors

_MERGED_BY_OPENCV = (np.uint8, np.uint16)  # types that cv2.merge joins faster than NumPy
_ASSOCIATED = 1  # value of EXTRA_SAMPLES where colours are multiplied by alpha

_filters_changed = threading.Lock()
# A worker that is forked while another thread holds it would wait for ever.
os.register_at_fork(
    before=_filters_changed.acquire,
    after_in_parent=_filters_changed.release,
    after_in_child=_filters_changed.release,
)


class Tiff:
    """An open TIFF; heights, widths and windows refer to the upright image.

    Args:
        path: the file.
        max_value: see ``read_image``.

    Raises:
        BadImageError: it cannot be read; a broken block shows only when ``read`` reaches it.
    """

    def __init__(self, path: str | os.PathLike[str], max_value: float | None = None):
        self.path = path
        self.max_value = max_value
        tags, self.dataset = _open_dataset(path)
        self.orientation = orientation_of(tags)
        self.height, self.width = shown_size(self.dataset.height, self.dataset.width, self.orientation)
        self.dtype = np.dtype(self.dataset.dtypes[0])
        self.block_bytes = math.prod(self.dataset.block_shapes[0]) * self.dataset.count * self.dtype.itemsize
        kinds = self.dataset.colorinterp
        self.palette = _colour_table(self.dataset.colormap(1)) if kinds[0] == ColorInterp.palette else None
        colours = [band for band, kind in enumerate(kinds, 1) if kind != ColorInterp.alpha]
        self.colours = colours[:3] if len(colours) >= 3 else colours[:1]
        self.alpha = [band for band, kind in enumerate(kinds, 1) if kind == ColorInterp.alpha][:1]
        self.is_premultiplied = tags.get(EXTRA_SAMPLES) == _ASSOCIATED
        self.white = self._declared_white(tags.get(MAX_SAMPLE, 0))
        structure = self.dataset.tags(ns="IMAGE_STRUCTURE")
        self.is_inverted = structure.get("MINISWHITE") == "YES" and self.palette is None

    def check_pixels(self) -> None:
        """Raise a BadImageError where the samples cannot be converted to 8 bits."""
        if self.palette is None:  # one made-up pixel shows it, before any block is decoded
            with bad_image_errors(self.path):
                to_bytes(Pixels(np.zeros((1, 1, 1), self.dtype), self.white), self.max_value)

    def _declared_white(self, max_sample: int) -> int | None:
        """Return the largest value from the number of bits, or from MaxSampleValue."""
        bits = int(self.dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 0))
        if bits or self.dtype != np.uint16:
            return 2**bits - 1 if bits else None
        # MaxSampleValue may also be the largest value that occurs: only one of the form 2 ** n - 1 is a depth.
        is_depth = max_sample > 255 and (max_sample + 1) & max_sample == 0
        return max_sample if is_depth else None

    @property
    def georeference(self) -> Mapping[str, Any]:
        crs, transform = self.dataset.crs, self.dataset.transform
        if crs is None and transform.is_identity:
            return {}
        place = rasterio.Affine(*stored_affine((self.height, self.width), self.orientation))
        return {"crs": crs, "transform": transform * place}

    @property
    def is_lossy(self) -> bool:
        """Whether it is compressed with JPEG, which changes values."""
        return bool(self.dataset.compression == Compression.jpeg)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window, [height, width, 3] uint8 RGB."""
        window = top, left, height, width
        check_window((self.height, self.width), *window)
        if self.palette is not None:
            colours: np.ndarray = self.palette[self.read_band(1, *window)]
            return colours
        values = self._read_stored(window, [*self.colours, *self.alpha])
        pixels = Pixels(values, self.white, bool(self.alpha), self.is_premultiplied)
        warn_assumed_depth(self.path, pixels, self.max_value)
        picture = to_bytes(pixels, self.max_value)
        return upright(to_channels(~picture if self.is_inverted else picture, 3), self.orientation)

    def read_band(self, band: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window of a band, [height, width], with the values as stored; bands are counted from 1."""
        check_window((self.height, self.width), top, left, height, width)
        return upright(self._read_stored((top, left, height, width), [band])[..., 0], self.orientation)

    def _read_stored(self, window: tuple[int, int, int, int], bands: list[int]) -> np.ndarray:
        top, left, height, width = stored_window(window, (self.height, self.width), self.orientation)
        with gdal_errors(self.path):
            values: np.ndarray = self.dataset.read(bands, window=Window(left, top, width, height))
        if len(bands) > 1 and values.dtype in _MERGED_BY_OPENCV:
            joined: np.ndarray = cv2.merge([*values])
            return joined
        return values.transpose(1, 2, 0)


def open_tiff(path: str | os.PathLike[str], max_value: float | None) -> Tiff:
    """Open a TIFF whose samples can be converted to 8 bits; see ``read_image`` for ``max_value``."""
    check_max_value(max_value)
    image = Tiff(path, max_value)
    image.check_pixels()
    return image


def read_tiff(path: str | os.PathLike[str], max_value: float | None) -> np.ndarray:
    """Return a whole TIFF, [H, W, 3] uint8 RGB; see ``read_image``."""
    with rasterio.Env(**GDAL_OPTIONS):
        image = open_tiff(path, max_value)
        with image.dataset:
            with bad_image_errors(path):
                check_size(image.height, image.width)
            return image.read(0, 0, image.height, image.width)


def _open_dataset(path: str | os.PathLike[str]) -> tuple[dict[int, int], Any]:
    """Return the tags that GDAL does not expose, and the file opened by GDAL."""
    with bad_image_errors(path), ignore_gdal_remarks(), gdal_errors(path), open(path, "rb") as file:
        tags = tiff_tags(lambda at, size: os.pread(file.fileno(), size, at), {ORIENTATION, MAX_SAMPLE, EXTRA_SAMPLES})
        name = os.path.abspath(path)
        if not is_utf8(name):
            name = f"/proc/self/fd/{file.fileno()}"  # GDAL accepts only names that are UTF-8
        return tags, DatasetReader(name)  # rasterio.open would look for cloud credentials first


def _colour_table(colours: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    table = np.zeros((max(256, *colours) + 1, 3), dtype=np.uint8)
    for value, colour in colours.items():
        table[value] = colour[:3]
    return table


def check_window(size: Sequence[int], top: int, left: int, height: int, width: int) -> None:
    """Raise a ValueError where a window does not lie within an image of ``size``, height and width."""
    inside = 0 <= top <= top + height <= size[0] and 0 <= left <= left + width <= size[1]
    if not inside or min(height, width) < 1:
        window = f"top {top}, left {left}, {height} x {width}"
        raise ValueError(f"a window must lie within the image of {size[0]} x {size[1]}, got {window}.")


def is_utf8(name: str) -> bool:
    """Whether the name of a file is valid UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def ignore_gdal_remarks() -> Iterator[None]:
    """Suppress the warning of an image without a georeference; most images have none. One thread at a time."""
    # What a thread changes of the filters, another one that leaves the block would undo for it.
    with _filters_changed, warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def gdal_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn GDAL's errors into a BadImageError that names the file and its size."""
    try:
        yield
    except FAULTS as error:
        raise bad_image(path, f"{reason_of(error)}; it has {os.path.getsize(path)} bytes") from error


def reason_of(error: Exception) -> str:
    """Return the text of GDAL's own error."""
    # rasterio raises "Read failed. See previous exception", with GDAL's error as the cause.
    return str(error.__cause__ or error)
