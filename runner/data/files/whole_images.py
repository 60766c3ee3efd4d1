"""Decode whole images other than TIFF: with OpenCV where it keeps every sample, otherwise with Pillow."""

import io
from importlib import import_module

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from .image_headers import JPEG_START, PNG_START, exif_orientation, jpeg_header, png_chunks
from .pixels import Pixels

_JPEG_END = b"\xff\xd9"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6  # colour types of PNG
_TOO_LARGE_ADVICE = "save it as a tiled TIFF, which is read by windows, or raise PIL.Image.MAX_IMAGE_PIXELS"


def decode(data: bytes, *, grey: bool = False) -> tuple[Pixels, int]:
    """Decode an image; of an animation the first frame.

    Args:
        data: the content of the file.
        grey: whether a JPEG may be decoded to its luminance alone, which is faster.

    Returns:
        Its samples, and its orientation, 1 to 8.

    Raises:
        Exception: it cannot be decoded; on a broken file a decoder raises anything.
    """
    if data.startswith(JPEG_START):
        return _decode_jpeg(data, grey)
    if data.startswith(PNG_START):
        return _decode_png(data)
    with load_with_pillow(data) as image:
        return pixels_of(image), exif_orientation(image.info.get("exif") or b"")


def check_size(height: int, width: int) -> None:
    """Raise a ValueError where an image has more pixels than Pillow would decode."""
    # One limit for all decoders: a small file may decompress to more than the memory.
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > 2 * limit:
        raise ValueError(
            f"its {width} x {height} pixels are more than the {2 * limit} of Pillow's limit: {_TOO_LARGE_ADVICE}"
        )


def load_with_pillow(data: bytes) -> Image.Image:
    """Return an image decoded by Pillow.

    Raises:
        ValueError: it cannot be decoded, or is too large.
    """
    try:
        image = _open_with_pillow(data)
        image.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{error}; it has {len(data)} bytes") from error
    return image


def _open_with_pillow(data: bytes) -> Image.Image:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        _register_heic()  # Pillow needs an optional package for it
    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error} {_TOO_LARGE_ADVICE}") from error
    except UnidentifiedImageError:
        return _open_with_opencv(data)


def _register_heic() -> None:
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        raise ValueError("it is HEIC, for which a package is missing: pip install pillow-heif") from error


def _open_with_opencv(data: bytes) -> Image.Image:
    # Formats that Pillow does not know; as a Pillow image, so that they go the same way as the rest.
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(error.err) from error
    if image is None:
        raise _incomplete_error(data)
    return Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def pixels_of(image: Image.Image) -> Pixels:
    """Return the samples of an image opened by Pillow."""
    if image.mode in ("1", "L", "RGB") and "transparency" not in image.info:
        return Pixels(_samples_of(image.convert("L") if image.mode == "1" else image))
    if image.mode.startswith("I;16"):
        # Pillow scales the samples of a JPEG 2000 to the full 16 bits, whatever their depth.
        white = 65535 if image.format == "JPEG2000" else None
        return Pixels(_samples_of(image).astype(np.uint16), white=white)
    if image.mode == "I" and image.format == "PPM":  # also scaled to 16 bits by Pillow
        return Pixels(_samples_of(image).astype(np.uint16), white=65535)
    if image.mode in ("I", "F"):
        return Pixels(_samples_of(image))
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return Pixels(_samples_of(image.convert("RGBA")), has_alpha=True)
    return Pixels(_samples_of(image.convert("RGB")))


def _samples_of(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    return values if values.ndim == 3 else values[..., None]


def _decode_jpeg(data: bytes, grey: bool) -> tuple[Pixels, int]:
    header = jpeg_header(data)
    orientation = header.orientation if header else 1
    if header:
        check_size(header.height, header.width)
    if _JPEG_END not in data[-16:]:
        # Cut short: Pillow raises, whereas OpenCV before version 5 silently fills the rest with grey.
        load_with_pillow(data).close()
    if header and header.components == 4:  # CMYK
        with load_with_pillow(data) as image:
            return pixels_of(image), orientation
    kind = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    return Pixels(_decode_with_opencv(data, kind | cv2.IMREAD_IGNORE_ORIENTATION)), orientation


def _decode_png(data: bytes) -> tuple[Pixels, int]:
    chunks = png_chunks(data)
    if chunks is None:
        raise _incomplete_error(data)
    header = chunks[b"IHDR"]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    check_size(height, width)
    orientation = exif_orientation(chunks.get(b"eXIf", b""))
    depth, kind = header[8], header[9]
    if depth < 8 or kind == _PALETTE or (depth == 8 and b"tRNS" in chunks):
        with load_with_pillow(data) as image:
            if depth < 8 and isinstance(image.info.get("transparency"), int) and kind == _GREY:
                # Pillow scales grey samples of few bits to 8, but not the value that is transparent.
                image.info["transparency"] *= 255 // (2**depth - 1)
            return pixels_of(image), orientation
    values = _decode_with_opencv(data, cv2.IMREAD_UNCHANGED)
    if kind == _GREY_ALPHA:
        values = np.ascontiguousarray(values[..., 2:])
    elif b"tRNS" in chunks and values.shape[2] % 2:  # an even number: OpenCV has added alpha itself
        values = _add_alpha(values, chunks[b"tRNS"])
    has_alpha = kind in (_GREY_ALPHA, _RGBA) or b"tRNS" in chunks
    return Pixels(values, _declared_white(values, depth, chunks.get(b"sBIT", b"")), has_alpha), orientation


def _add_alpha(values: np.ndarray, key: bytes) -> np.ndarray:
    """Add an alpha channel to 16-bit samples, where ``key`` is the transparent colour."""
    is_shown = (values != np.frombuffer(key, ">u2")).any(axis=2, keepdims=True)
    return np.concatenate([values, is_shown * values.dtype.type(65535)], axis=2)


def _declared_white(values: np.ndarray, depth: int, significant: bytes) -> int | None:
    """Return the largest value of 16-bit samples with fewer significant bits; None where all are significant."""
    # PNG requires samples to be scaled to 16 bits. Some writers omit it: then no value reaches 2 ** bits.
    if depth != 16 or not significant:
        return None
    bits = max(significant[:3])
    return 65535 if not 8 <= bits < 16 or values.max() >= 2**bits else 2**bits - 1


def _decode_with_opencv(data: bytes, flags: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise _incomplete_error(data)
    if image.ndim == 3:  # converted in place, without a second copy
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, dst=image)
    values: np.ndarray = image.reshape(*image.shape[:2], -1)
    return values


def _incomplete_error(data: bytes) -> ValueError:
    return ValueError(f"its {len(data)} bytes are not a complete image of a format that OpenCV knows")
