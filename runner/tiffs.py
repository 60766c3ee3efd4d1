"""TIFF files, read by windows: by GDAL, which decodes the blocks that a window touches."""

import contextlib
import math
import os
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

from .image_headers import EXTRA_SAMPLES, MAX_SAMPLE, ORIENTATION, orientation_of, tiff_tags
from .images import bad_image, bad_image_errors, say_assumed_depth
from .pixels import Pixels, shown_size, stored_place, stored_window, to_bytes, to_channels, upright

FAULTS = (RasterioError, CPLE_BaseError)  # GDAL's own errors come through here and there

_OF_OPENCV = (np.uint8, np.uint16)  # what cv2.merge takes, which is faster
_ASSOCIATED = 1  # of EXTRA_SAMPLES: colours are multiplied by alpha


class Tiff:
    """A TIFF that is open; heights, widths and windows are those of the image as it is shown.

    Args:
        path: the file.
        max_value: see ``read_image``.

    Raises:
        BadImageError: it cannot be read; this may show at a ``read`` only.
    """

    def __init__(self, path: str | os.PathLike[str], max_value: float | None = None):
        self.path = path
        self.max_value = max_value
        tags, self.dataset = _opened(path)
        self.orientation = orientation_of(tags)
        self.height, self.width = shown_size(self.dataset.height, self.dataset.width, self.orientation)
        self.dtype = np.dtype(self.dataset.dtypes[0])
        self.block_bytes = math.prod(self.dataset.block_shapes[0]) * self.dataset.count * self.dtype.itemsize
        kinds = self.dataset.colorinterp
        self.palette = _palette(self.dataset.colormap(1)) if kinds[0] == ColorInterp.palette else None
        colours = [band for band, kind in enumerate(kinds, 1) if kind != ColorInterp.alpha]
        self.colours = colours[:3] if len(colours) >= 3 else colours[:1]
        self.alpha = [band for band, kind in enumerate(kinds, 1) if kind == ColorInterp.alpha][:1]
        self.is_premultiplied = tags.get(EXTRA_SAMPLES) == _ASSOCIATED
        self.white = self._white(tags.get(MAX_SAMPLE, 0))
        structure = self.dataset.tags(ns="IMAGE_STRUCTURE")
        self.is_inverted = structure.get("MINISWHITE") == "YES" and self.palette is None

    def check_pixels(self) -> None:
        """Raise a BadImageError where the samples cannot become 8 bits."""
        if self.palette is None:
            with bad_image_errors(self.path):
                to_bytes(Pixels(np.zeros((1, 1, 1), self.dtype), self.white), self.max_value)

    def _white(self, max_sample: int) -> int | None:
        """Return the largest value by the number of bits, or by MaxSampleValue where that is one of whole bits."""
        bits = int(self.dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 0))
        if bits or self.dtype != np.uint16:
            return 2**bits - 1 if bits else None
        is_depth = max_sample > 255 and (max_sample + 1) & max_sample == 0
        return max_sample if is_depth else None

    @property
    def georeference(self) -> Mapping[str, Any]:
        crs, transform = self.dataset.crs, self.dataset.transform
        if crs is None and transform.is_identity:
            return {}
        place = rasterio.Affine(*stored_place((self.height, self.width), self.orientation))
        return {"crs": crs, "transform": transform * place}

    @property
    def is_lossy(self) -> bool:
        """Whether it is compressed by JPEG, which changes values."""
        return bool(self.dataset.compression == Compression.jpeg)

    def read(self, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window, [height, width, 3] uint8 RGB."""
        window = top, left, height, width
        check_window((self.height, self.width), *window)
        if self.palette is not None:
            colours: np.ndarray = self.palette[self.read_band(1, *window)]
            return colours
        values = self._stored(window, [*self.colours, *self.alpha])
        pixels = Pixels(values, self.white, bool(self.alpha), self.is_premultiplied)
        say_assumed_depth(self.path, pixels, self.max_value)
        picture = to_bytes(pixels, self.max_value)
        return upright(to_channels(~picture if self.is_inverted else picture, 3), self.orientation)

    def read_band(self, band: int, top: int, left: int, height: int, width: int) -> np.ndarray:
        """Return a window of a band, counted from 1, as it is stored, [height, width]."""
        check_window((self.height, self.width), top, left, height, width)
        return upright(self._stored((top, left, height, width), [band])[..., 0], self.orientation)

    def _stored(self, window: tuple[int, int, int, int], bands: list[int]) -> np.ndarray:
        top, left, height, width = stored_window(window, (self.height, self.width), self.orientation)
        with named_errors(self.path):
            values: np.ndarray = self.dataset.read(bands, window=Window(left, top, width, height))
        if len(bands) > 1 and values.dtype in _OF_OPENCV:
            joined: np.ndarray = cv2.merge([*values])
            return joined
        return values.transpose(1, 2, 0)


def _opened(path: str | os.PathLike[str]) -> tuple[dict[int, int], Any]:
    """Return the tags that GDAL does not tell, and the file opened by GDAL."""
    with bad_image_errors(path), quietly(), named_errors(path), open(path, "rb") as file:
        tags = tiff_tags(lambda at, size: os.pread(file.fileno(), size, at), {ORIENTATION, MAX_SAMPLE, EXTRA_SAMPLES})
        name = os.path.abspath(path)
        if not is_utf8(name):
            name = f"/proc/self/fd/{file.fileno()}"  # GDAL takes no other names
        return tags, DatasetReader(name)  # rasterio.open would look for credentials first


def _palette(colours: Mapping[int, tuple[int, ...]]) -> np.ndarray:
    table = np.zeros((max(256, *colours) + 1, 3), dtype=np.uint8)
    for value, colour in colours.items():
        table[value] = colour[:3]
    return table


def check_window(size: Sequence[int], top: int, left: int, height: int, width: int) -> None:
    """Raise a ValueError where a window does not lie within an image of a height and a width."""
    inside = 0 <= top <= top + height <= size[0] and 0 <= left <= left + width <= size[1]
    if not inside or min(height, width) < 1:
        window = f"top {top}, left {left}, {height} x {width}"
        raise ValueError(f"a window must lie within the image of {size[0]} x {size[1]}, got {window}.")


def is_utf8(name: str) -> bool:
    """Whether the bytes of a file's name are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Leave out the warning that an image does not lie on the earth, and GDAL's remarks on odd tags."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def named_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the file in GDAL's errors."""
    try:
        yield
    except FAULTS as error:
        raise bad_image(path, f"{reason_of(error)}; it has {os.path.getsize(path)} bytes") from error


def reason_of(error: Exception) -> str:
    """Return GDAL's own words."""
    return str(error.__cause__ or error)
