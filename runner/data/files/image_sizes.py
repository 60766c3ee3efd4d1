"""Read the width and height of an image from its header, without decoding it."""

import os
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from PIL import Image

from .image_errors import BadImageError, bad_image_errors
from .image_headers import (
    JPEG_START,
    ORIENTATION,
    PNG_START,
    TIFF_STARTS,
    exif_orientation,
    jpeg_header,
    orientation_of,
    tiff_tags,
)
from .images import read_image

_START, _MORE = 4096, 2**17  # bytes of a JPEG to look for its header in, and to go on with
_WIDTH, _HEIGHT = 256, 257  # tags of TIFF
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height


class ImageSize(NamedTuple):
    """The size of an image as ``read_image`` returns it, which is upright; ``is_turned``: the file holds it lying."""

    width: int
    height: int
    is_turned: bool = False


def image_size(path: str | os.PathLike[str]) -> ImageSize:
    """Return the size of the image that ``read_image`` gives for a file, from the file's header.

    Raises:
        BadImageError: the file is missing, empty, or no image.
    """
    with bad_image_errors(path), open(path, "rb") as file:
        start = file.read(_START)
        if not start:
            raise ValueError("it is empty")
        if start.startswith(JPEG_START):
            return _jpeg_size(file, start)
        if start.startswith(PNG_START):
            return _png_size(file, start)
        return _tiff_size(file) if start[:4] in TIFF_STARTS else _other_size(path)


def checked_size(
    root: str | os.PathLike[str], path: str, stated: tuple[int, int] | None
) -> tuple[ImageSize | None, str]:
    """Return the size of an image and ""; or None and why it is left out, as its annotations may be of another image.

    Args:
        root: the folder of the data set.
        path: of the image, relative to it.
        stated: width and height as an annotation says; None where it does not, as does a 0.
    """
    full = os.path.join(root, path)
    try:
        size = image_size(full)
    except BadImageError as error:
        return None, str(error) if os.path.exists(full) else f"{path} is not there"
    if stated is None or 0 in stated or stated == size[:2]:
        return size, ""
    turned = ", turned upright as its EXIF asks for" if size.is_turned else ""
    says = f"says {stated[0]} x {stated[1]} pixels, and {path} has {size.width} x {size.height}{turned}"
    return None, f"{says}; left out, as its annotations may be in pixels of another image"


def describe_zero_sizes(paths: Sequence[str]) -> list[str]:
    """Return a line about images with a stated size of 0; none where there is none."""
    more = f" and {len(paths) - 1:,} more" if len(paths) > 1 else ""
    return [f"a stated width or height of 0 counts as none: {paths[0]}{more}"] if paths else []


def _jpeg_size(file: BinaryIO, start: bytes) -> ImageSize:
    # A preview, a colour profile or a caption may stand before the size.
    data = start
    while (header := jpeg_header(data)) is None and (more := file.read(_MORE)):
        data += more
    if header is None:
        raise ValueError(f"its {len(data)} bytes are a JPEG without a size")
    return _upright(header.width, header.height, header.orientation)


def _png_size(file: BinaryIO, start: bytes) -> ImageSize:
    width, height = (int.from_bytes(start[at : at + 4], "big") for at in (16, 20))
    if not width or not height:
        raise ValueError("it is a PNG without a size")
    return _upright(width, height, exif_orientation(_png_chunk(file, b"eXIf")))


def _png_chunk(file: BinaryIO, kind: bytes) -> bytes:
    """Return the first chunk of a kind; nothing where there is none."""
    file.seek(len(PNG_START))
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        if head[4:] == kind:
            return file.read(length)
        file.seek(length + 4, os.SEEK_CUR)  # its content and its checksum
    return b""


def _tiff_size(file: BinaryIO) -> ImageSize:
    def read(at: int, size: int) -> bytes:
        file.seek(at)
        return file.read(size)

    tags = tiff_tags(read, {_WIDTH, _HEIGHT, ORIENTATION})
    if not (tags.get(_WIDTH) and tags.get(_HEIGHT)):
        raise ValueError("it is a TIFF without a size")
    return _upright(tags[_WIDTH], tags[_HEIGHT], orientation_of(tags))


def _other_size(path: str | os.PathLike[str]) -> ImageSize:
    try:
        with Image.open(path) as image:
            return _upright(*image.size, exif_orientation(image.info.get("exif") or b""))
    except OSError:  # a format that Pillow does not know, or does not know yet
        height, width = read_image(path).shape[:2]
        return ImageSize(width, height)


def _upright(width: int, height: int, orientation: int) -> ImageSize:
    return ImageSize(height, width, True) if orientation in _TURNED else ImageSize(width, height)
