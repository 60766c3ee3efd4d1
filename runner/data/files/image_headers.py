"""Parse the headers of image files: size, orientation, and kind of samples."""

import re
import struct
from collections.abc import Callable, Collection
from typing import NamedTuple

ORIENTATION, MAX_SAMPLE, EXTRA_SAMPLES = 274, 281, 338
"""Tags of TIFF, and of EXIF, which has the structure of a TIFF."""

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"

_NUMBERS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # types of a tag's values, as struct names them
_MOST_TAGS = 4096  # a broken count must not make it read gigabytes
_LONGEST_HEADER = 65536  # of a PGM, with its comments
_FRAME_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG that begin a frame
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}
_AFTER_HEADER = (0xD9, 0xDA)  # the end of the image, and the start of its pixels

Read = Callable[[int, int], bytes]  # takes an offset and a number of bytes


class JpegHeader(NamedTuple):
    """The header of a JPEG; ``orientation`` is that of EXIF, 1 to 8."""

    height: int
    width: int
    components: int
    orientation: int


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Return the header of a JPEG; None where it has none."""
    at, orientation = 2, 1
    while at + 10 <= len(data):
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xFF:
            at += 1  # skip stray bytes and fill bytes, as decoders do
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _AFTER_HEADER:
            break
        elif marker in _FRAME_MARKERS:
            height, width, components = struct.unpack_from(">HHB", data, at + 5)
            return JpegHeader(height, width, components, orientation)
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                orientation = exif_orientation(data[at + 4 : end])
            at = end
    return None


def png_chunks(data: bytes) -> dict[bytes, bytes] | None:
    """Return the first chunk of each kind in a PNG, without the pixels; None where the file is truncated."""
    found: dict[bytes, bytes] = {}
    at = len(PNG_START)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind != b"IDAT":
            found.setdefault(kind, data[at + 8 : at + 8 + length])
        if kind == b"IEND":  # a file that is cut short has none
            return found if len(found.get(b"IHDR", b"")) == 13 else None
        at += 12 + length
    return None


def pgm_maximum(data: bytes) -> int:
    """Return the largest sample value that a PGM declares."""
    return int(re.sub(rb"#[^\n]*", b"", data[:_LONGEST_HEADER]).split()[3])


def jpeg2000_samples(data: bytes) -> tuple[int, bool]:
    """Return the bits per sample of a JPEG 2000, and whether it is lossy."""
    size = data.index(b"\xff\x4f\xff\x51") + 2
    style = data.index(b"\xff\x52", size)
    # 0 is the 9-7 wavelet, whose rounding loses information; 1 is the reversible 5-3.
    return (data[size + 40] & 127) + 1, data[style + 13] == 0


def exif_orientation(data: bytes) -> int:
    """Return the orientation from EXIF, 1 to 8; 1, not turned, where it is missing or broken."""
    data = data.removeprefix(b"Exif\0\0")
    return orientation_of(tiff_tags(lambda at, size: data[at : at + size], {ORIENTATION}))


def orientation_of(tags: dict[int, int]) -> int:
    """Return the orientation from the tags of a file, 1 to 8."""
    orientation = tags.get(ORIENTATION, 1)
    return orientation if 1 <= orientation <= 8 else 1


def tiff_tags(read: Read, wanted: Collection[int]) -> dict[int, int]:
    """Return the first number of each wanted tag of the first image in a TIFF; nothing where the file is broken.

    Args:
        read: returns bytes of the file, from an offset.
        wanted: the tags to look for.
    """
    try:
        return _read_tags(read, wanted)
    except struct.error:
        return {}


def _read_tags(read: Read, wanted: Collection[int]) -> dict[int, int]:
    start = read(0, 16)
    if start[:4] not in TIFF_STARTS:
        return {}
    # BigTIFF (43, "+") has 8-byte offsets and counts where a TIFF has 4 or 2.
    order, is_big = "<" if start[:2] == b"II" else ">", b"+" in start[:4]
    (at,) = struct.unpack_from(order + ("Q" if is_big else "I"), start, 8 if is_big else 4)
    head, size, inline = (8, 20, 8) if is_big else (2, 12, 4)
    (count,) = struct.unpack(order + ("Q" if is_big else "H"), read(at, head))
    entries = read(at + head, min(count, _MOST_TAGS) * size)
    found = {}
    for place in range(0, len(entries) - size + 1, size):
        tag, kind, length = struct.unpack_from(order + ("HHQ" if is_big else "HHI"), entries, place)
        if tag in wanted and kind in _NUMBERS:
            form = order + _NUMBERS[kind]
            value = entries[place + size - inline : place + size]
            if length * struct.calcsize(form) > inline:  # too long for the entry, which holds an offset instead
                value = read(struct.unpack(order + ("Q" if is_big else "I"), value)[0], struct.calcsize(form))
            (found[tag],) = struct.unpack_from(form, value)
    return found
