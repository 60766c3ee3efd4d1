"""Read masks: the class numbers that a file stores in any lossless format, or colours that stand for classes."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from assay.callbacks.errors import UsageError

from .image_errors import bad_image_errors
from .image_headers import (
    JPEG_START,
    PNG_START,
    TIFF_STARTS,
    exif_orientation,
    jpeg2000_samples,
    pgm_maximum,
    png_chunks,
)
from .images import read_file
from .pixels import upright
from .whole_images import load_with_pillow

if TYPE_CHECKING:
    from .tiffs import Tiff

Colours = Mapping[int, Sequence[int]]

_LARGEST_CLASS = 2**31 - 1  # masks are int32 at most
_SHOWN = 5  # unknown colours in a message
_LOSSY = "it is compressed with loss, which changes class numbers: save masks as PNG or TIFF"


def read_mask(path: str | os.PathLike[str], *, colours: Colours | None = None) -> np.ndarray:
    """Read the class numbers of a mask as they are stored.

    A palette gives its indices, not its colours; samples of 1, 2, 4 and 16 bits give their numbers, not their
    brightness. The orientation is applied, as for an image.

    Args:
        path: PNG, TIFF, GIF, BMP or another lossless format.
        colours: for masks that show classes by colours: the colour of each class, ``{class: (red, green, blue)}``. The
            colours that a viewer shows are looked up, also of a palette or of grey. ``{0: (0, 0, 0), 1: (255, 255,
            255)}`` is for black and white masks, such as ``assay predict`` writes for a single output.

    Returns:
        [H, W]; uint8 for up to 8 bits, int32 for more bits and for classes above 255.

    Raises:
        BadImageError: the file cannot be read, is compressed with loss, or has transparent pixels, fractions, colours
            without ``colours``, or colours that are not among them.
        UsageError: see ``check_colours``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (3, 2), (255, 0, 0)).save(f"{folder}/roofs.png")
        ...     read_mask(f"{folder}/roofs.png", colours={0: (0, 0, 0), 1: (255, 0, 0)})
        array([[1, 1, 1],
               [1, 1, 1]], dtype=uint8)
    """
    if colours is not None:
        check_colours(colours)
    data = read_file(path)
    with bad_image_errors(path):
        if data[:4] not in TIFF_STARTS:
            return _read_whole(data, colours)
        import rasterio  # slow to import

        from .tiffs import Tiff

        with rasterio.Env():
            image = Tiff(path)
            with image.dataset:
                return tiff_numbers(image, (0, 0, image.height, image.width), colours)


def check_colours(colours: Colours) -> None:
    """Check the colours of classes.

    Raises:
        UsageError: there are none, a class is not a whole number from 0 on, a colour is not three whole numbers from 0
            to 255, or two classes have the same colour.
    """
    if not colours:
        raise UsageError("colours must name the colour of each class, {class: (red, green, blue)}, got none.")
    known: dict[tuple[int, ...], int] = {}
    for number, colour in colours.items():
        if not _is_number(number, _LARGEST_CLASS):
            raise UsageError(f"colours must be given by class numbers, 0 to {_LARGEST_CLASS}, got {number!r}.")
        if isinstance(colour, str) or len(colour) != 3 or not all(_is_number(part, 255) for part in colour):
            raise UsageError(f"colours of class {number} must be three whole numbers from 0 to 255, got {colour!r}.")
        one = tuple(int(part) for part in colour)
        if one in known:
            raise UsageError(f"colours must differ: classes {known[one]} and {number} both have {one}.")
        known[one] = number


def _is_number(value: object, largest: int) -> bool:
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)  # in Python True is 1
    return is_whole and 0 <= value <= largest  # type: ignore[operator]


def tiff_numbers(image: "Tiff", window: tuple[int, int, int, int], colours: Colours | None = None) -> np.ndarray:
    """Return a window (top, left, height, width) of a mask that is a TIFF; see ``read_mask``."""
    with bad_image_errors(image.path):
        if image.is_lossy:
            raise ValueError(_LOSSY)
        if image.alpha:
            _check_opaque(image.read_band(image.alpha[0], *window))
        if colours is not None:
            return _look_up_classes(image.read(*window), colours)
        if len(image.dataset.dtypes) - len(image.alpha) > 1:
            raise ValueError(_many_bands_message(image.dataset.count))
        return _checked_numbers(image.read_band(1, *window))


def _read_whole(data: bytes, colours: Colours | None) -> np.ndarray:
    if data.startswith(JPEG_START) or _is_lossy_webp(data):
        raise ValueError(_LOSSY)
    with load_with_pillow(data) as image:
        if image.format in ("AVIF", "HEIF"):
            raise ValueError(_LOSSY)
        chunks = (png_chunks(data) or {}) if data.startswith(PNG_START) else {}
        orientation = exif_orientation(chunks.get(b"eXIf") or image.info.get("exif") or b"")
        if image.mode in ("LA", "PA", "RGBA"):
            _check_opaque(np.asarray(image.getchannel("A")))
        found = _stored_numbers(image, data, chunks) if colours is None else _classes_of_picture(image, chunks, colours)
        return upright(found, orientation)


def _stored_numbers(image: Image.Image, data: bytes, chunks: Mapping[bytes, bytes]) -> np.ndarray:
    if image.mode not in ("1", "L", "P", "LA", "PA", "I", "F") and not image.mode.startswith("I;16"):
        raise ValueError(_many_bands_message(3))
    bands = np.asarray(image)
    values = bands[..., 0] if bands.ndim == 3 else bands
    return _checked_numbers(_undo_scaling(values, image, data, chunks))


def _classes_of_picture(image: Image.Image, chunks: Mapping[bytes, bytes], colours: Colours) -> np.ndarray:
    if image.mode in ("I", "F") or image.mode.startswith("I;16") or chunks.get(b"IHDR", b"")[8:9] == b"\x10":
        raise ValueError("it has more than 8 bits per sample, and colours= are of 8 bits")
    return _look_up_classes(np.asarray(image.convert("RGB")), colours)


def _undo_scaling(values: np.ndarray, image: Image.Image, data: bytes, chunks: Mapping[bytes, bytes]) -> np.ndarray:
    # Pillow stretches samples of few bits from black to white; class numbers must stay as stored.
    if image.format == "PPM" and image.mode != "1":
        full = 255 if image.mode == "L" else 65535
        return (values * np.float64(pgm_maximum(data) / full)).round().astype(np.int32 if full > 255 else np.uint8)
    if image.format == "JPEG2000":
        bits, is_lossy = jpeg2000_samples(data)
        if is_lossy:
            raise ValueError(_LOSSY)
        return values >> max(0, (8 if image.mode == "L" else 16) - bits)
    depth = chunks[b"IHDR"][8] if image.mode == "L" and b"IHDR" in chunks else 8
    return values // (255 // (2**depth - 1)) if depth < 8 else values


def _checked_numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype in (np.uint8, np.bool_):
        return values.astype(np.uint8)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == values.round()).all()):
        raise ValueError(f"its pixels are {values.dtype} with fractions or NaN, not class numbers")
    if values.max() > _LARGEST_CLASS or values.min() < -_LARGEST_CLASS:
        raise ValueError(f"its pixels reach from {values.min()} to {values.max()}, not class numbers")
    return values.astype(np.int32)


def _check_opaque(alpha: np.ndarray) -> None:
    count = np.count_nonzero(alpha < np.iinfo(alpha.dtype).max)
    if count:
        raise ValueError(f"{count} of its pixels are transparent, and have no class: save the mask without alpha")


def _many_bands_message(bands: int) -> str:
    kind = "colours (RGB)" if bands == 3 else f"{bands} bands"
    return f"a mask must hold one class number per pixel, and it holds {kind}: give colours={{class: (r, g, b)}}"


def _look_up_classes(picture: np.ndarray, colours: Colours) -> np.ndarray:
    """Return the classes, [H, W], of colours [H, W, 3] uint8."""
    # Each colour becomes one number, which is found by bisection: the memory does not grow with the number of classes.
    codes = picture.astype(np.int32) @ np.array([65536, 256, 1], dtype=np.int32)
    numbers = np.array(list(colours), dtype=np.uint8 if max(colours) < 256 else np.int32)
    known = np.array(list(colours.values()), dtype=np.int32) @ np.array([65536, 256, 1], dtype=np.int32)
    order = np.argsort(known)
    place = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    is_known = known[order][place] == codes
    if not is_known.all():
        raise ValueError(_unknown_colours_message(codes[~is_known]))
    found: np.ndarray = numbers[order][place]
    return found


def _unknown_colours_message(codes: np.ndarray) -> str:
    values, counts = np.unique(codes, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:_SHOWN]
    shown = [
        f"{(code >> 16, code >> 8 & 255, code & 255)} in {count} pixel{'s' * (count > 1)}"
        for code, count in zip(values[most].tolist(), counts[most].tolist(), strict=True)
    ]
    rest = f" and {len(values) - len(most)} more" if len(values) > len(most) else ""
    return f"{len(values)} of its colours are not in colours=: {', '.join(shown)}{rest}"


def _is_lossy_webp(data: bytes) -> bool:
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP" and data[12:16] != b"VP8L" and b"VP8L" not in data
