"""Decoding images that are no TIFF, as a whole: by OpenCV where it keeps all, by Pillow where it does not."""

import io
from importlib import import_module

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from .image_headers import JPEG_START, PNG_START, exif_orientation, jpeg_header, png_chunks
from .pixels import Pixels

_JPEG_END = b"\xff\xd9"
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6  # kinds of PNG
_OVERFLOW = "save it as a tiled TIFF, which is read by windows, or raise PIL.Image.MAX_IMAGE_PIXELS"


def decode(data: bytes, *, grey: bool = False) -> tuple[Pixels, int]:
    """Decode an image, of an animation the first picture.

    Args:
        data: the file.
        grey: whether a JPEG may give its luminance alone, which is faster.

    Returns:
        Its samples, and its orientation, 1 to 8.

    Raises:
        Exception: it cannot be decoded; a broken file makes a decoder raise anything.
    """
    if data.startswith(JPEG_START):
        return _decode_jpeg(data, grey)
    if data.startswith(PNG_START):
        return _decode_png(data)
    with loaded_by_pillow(data) as image:
        return pixels_of(image), exif_orientation(image.info.get("exif") or b"")


def check_size(height: int, width: int) -> None:
    """Raise a ValueError where an image has more pixels than Pillow would decode, by whatever it is decoded."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > 2 * limit:
        raise ValueError(f"its {width} x {height} pixels are more than the {2 * limit} of Pillow's limit: {_OVERFLOW}")


def loaded_by_pillow(data: bytes) -> Image.Image:
    """Return an image that Pillow has decoded.

    Raises:
        ValueError: it cannot be read here, or is too large.
    """
    try:
        image = _opened_by_pillow(data)
        image.load()
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{error}; it has {len(data)} bytes") from error
    return image


def _opened_by_pillow(data: bytes) -> Image.Image:
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        _add_heic()
    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error} {_OVERFLOW}") from error
    except UnidentifiedImageError:
        return _opened_by_opencv(data)


def _add_heic() -> None:
    try:
        import_module("pillow_heif").register_heif_opener()
    except ImportError as error:
        raise ValueError("it is HEIC, for which a package is missing: pip install pillow-heif") from error


def _opened_by_opencv(data: bytes) -> Image.Image:
    """Return an image of a kind that Pillow does not know."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError(error.err) from error
    if image is None:
        raise ValueError(f"its {len(data)} bytes are no whole image of a kind that OpenCV knows")
    return Image.fromarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def pixels_of(image: Image.Image) -> Pixels:
    """Return the samples of an image that Pillow has opened."""
    if image.mode in ("1", "L", "RGB") and "transparency" not in image.info:
        return Pixels(_array(image.convert("L") if image.mode == "1" else image))
    if image.mode.startswith("I;16"):
        scaled_by_pillow = 65535 if image.format == "JPEG2000" else None
        return Pixels(_array(image).astype(np.uint16), white=scaled_by_pillow)
    if image.mode == "I" and image.format == "PPM":  # which Pillow has scaled to 16 bits
        return Pixels(_array(image).astype(np.uint16), white=65535)
    if image.mode in ("I", "F"):
        return Pixels(_array(image))
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return Pixels(_array(image.convert("RGBA")), has_alpha=True)
    return Pixels(_array(image.convert("RGB")))


def _array(image: Image.Image) -> np.ndarray:
    values = np.asarray(image)
    return values if values.ndim == 3 else values[..., None]


def _decode_jpeg(data: bytes, grey: bool) -> tuple[Pixels, int]:
    header = jpeg_header(data)
    orientation = header.orientation if header else 1
    if header:
        check_size(header.height, header.width)
    if _JPEG_END not in data[-16:]:
        loaded_by_pillow(data).close()  # which raises; OpenCV before 5 fills it up with grey and says nothing
    if header and header.components == 4:
        with loaded_by_pillow(data) as image:
            return pixels_of(image), orientation
    kind = cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR
    return Pixels(_by_opencv(data, kind | cv2.IMREAD_IGNORE_ORIENTATION)), orientation


def _decode_png(data: bytes) -> tuple[Pixels, int]:
    chunks = png_chunks(data)
    if chunks is None:
        raise ValueError(f"its {len(data)} bytes are no whole image of a kind that OpenCV knows")
    header = chunks[b"IHDR"]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    check_size(height, width)
    orientation = exif_orientation(chunks.get(b"eXIf", b""))
    depth, kind = header[8], header[9]
    if depth < 8 or kind == _PALETTE or (depth == 8 and b"tRNS" in chunks):
        with loaded_by_pillow(data) as image:
            if depth < 8 and isinstance(image.info.get("transparency"), int) and kind == _GREY:
                image.info["transparency"] *= 255 // (2**depth - 1)  # as Pillow has done with the samples
            return pixels_of(image), orientation
    values = _by_opencv(data, cv2.IMREAD_UNCHANGED)
    if kind == _GREY_ALPHA:
        values = np.ascontiguousarray(values[..., 2:])
    elif b"tRNS" in chunks and values.shape[2] % 2:  # of colours OpenCV has added alpha
        values = _with_alpha(values, chunks[b"tRNS"])
    has_alpha = kind in (_GREY_ALPHA, _RGBA) or b"tRNS" in chunks
    return Pixels(values, _white(values, depth, chunks.get(b"sBIT", b"")), has_alpha), orientation


def _with_alpha(values: np.ndarray, key: bytes) -> np.ndarray:
    """Add alpha to 16-bit samples of which one colour is transparent."""
    is_shown = (values != np.frombuffer(key, ">u2")).any(axis=2, keepdims=True)
    return np.concatenate([values, is_shown * values.dtype.type(65535)], axis=2)


def _white(values: np.ndarray, depth: int, significant: bytes) -> int | None:
    """Return the largest value of samples of 16 bits of which fewer count.

    The format wants them scaled to 16 bits. Where none reaches 2 ** bits, they were not.
    """
    if depth != 16 or not significant:
        return None
    bits = max(significant[:3])
    return 65535 if not 8 <= bits < 16 or values.max() >= 2**bits else 2**bits - 1


def _by_opencv(data: bytes, flags: int) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError(f"its {len(data)} bytes are no whole image of a kind that OpenCV knows")
    if image.ndim == 3:
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA, dst=image)
    values: np.ndarray = image.reshape(*image.shape[:2], -1)
    return values
