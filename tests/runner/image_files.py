"""Small files in true formats, written by hand where no library writes them."""

import struct
import warnings
import zlib

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6


def write_png(path, values, depth, kind, **chunks):
    """Write samples [H, W] or [H, W, C] with so many bits; ``chunks`` are further ones, before the pixels."""
    values = values.reshape(*values.shape[:2], -1)
    height, width, _ = values.shape
    rows = values.reshape(height, -1)
    if depth < 8:
        bits = (rows[..., None] >> np.arange(depth)[::-1]) & 1
        packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    else:
        packed = rows.astype(">u2" if depth == 16 else np.uint8).view(np.uint8).reshape(height, -1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), packed], axis=1)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = {b"IHDR": header, **{name.encode(): data for name, data in chunks.items()}}
    parts |= {b"IDAT": zlib.compress(lines.tobytes()), b"IEND": b""}
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts.items()))


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_tiff(path, values, *, tags=None, colormap=None, **options):
    """Write samples [H, W] or [H, W, C] by GDAL; ``tags`` are those of the file."""
    values = values.reshape(*values.shape[:2], -1)
    height, width, count = values.shape
    shape = {"height": height, "width": width, "count": count, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
            file.write(values.transpose(2, 0, 1))
            if tags:
                file.update_tags(**tags)
            if colormap is not None:
                file.write_colormap(1, colormap)


def exif(orientation):
    """Return EXIF with an orientation."""
    found = Image.Exif()
    found[0x0112] = orientation
    return found.tobytes()


def turned(picture, orientation):
    """Return what is stored so that a picture [H, W, ...] is shown with an orientation, by NumPy alone."""
    ways = {
        1: lambda of: of, 2: lambda of: of[:, ::-1], 3: lambda of: np.rot90(of, 2), 4: lambda of: of[::-1],
        5: lambda of: np.swapaxes(of, 0, 1), 6: lambda of: np.rot90(of, 1),
        7: lambda of: np.swapaxes(np.rot90(of, 2), 0, 1), 8: lambda of: np.rot90(of, -1),
    }  # fmt: skip
    return np.ascontiguousarray(ways[orientation](picture))
