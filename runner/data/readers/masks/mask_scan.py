"""What mask files hold: class numbers, palettes or colours, found by a look at some of them."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from ...files.image_errors import BadImageError
from ...files.image_sizes import image_size
from ...files.images import read_image
from ...files.mask_files import read_mask
from .class_files import Colour

_THREADS = 8
_MOST_PIXELS = 300_000_000  # to decode, a few seconds; of larger sets masks at equal distances are looked at
_MOST_SCANNED = 20_000  # masks that are looked at, however small they are
_MOST_CHECKED = 20_000  # pairs whose sizes are compared before they are read
_MOST_COLOURS = 1_000  # of a mask, whose colours compression or smoothing has blurred beyond that
_CODES = np.array([65536, 256, 1], dtype=np.int64)


@dataclass(frozen=True)
class Found:
    """What one mask holds.

    Attributes:
        values: the stored numbers, or colours as numbers, [V] int64, rising; empty of a file that cannot be read.
        is_colours: whether they are colours: red * 65536 + green * 256 + blue.
        palette: of the file, [256, 3] uint8; None where it has none.
        problem: why it cannot be read; "" where it can.
        counts: pixels of each value, [V] int64.
    """

    values: np.ndarray
    is_colours: bool = False
    palette: np.ndarray | None = None
    problem: str = ""
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))


def scan_masks(root: str, paths: Sequence[str]) -> dict[int, Found]:
    """Return what the masks hold by their place: of all, or of so many that the look takes seconds.

    Args:
        root: the folder of the paths.
        paths: of the masks.
    """
    if not len(paths):
        return {}
    first = look_at(os.path.join(root, paths[0]))
    try:
        size = image_size(os.path.join(root, paths[0]))
        count = max(1, _MOST_PIXELS // max(1, size.width * size.height))
    except BadImageError:
        count = 1_000
    count = min(count, len(paths), _MOST_SCANNED)
    places = sorted({int(place) for place in np.linspace(0, len(paths) - 1, count)})
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda place: look_at(os.path.join(root, paths[place])), places[1:]))
    return dict(zip(places, [first, *found], strict=True))


def look_at(path: str) -> Found:
    """Return what a mask holds."""
    try:
        mode, palette = _mode_of(path)
        if mode in ("RGB", "RGBA"):
            codes, counts = np.unique(read_image(path).astype(np.int64) @ _CODES, return_counts=True)
            if len(codes) > _MOST_COLOURS:
                return Found(codes[:0], problem=f"{path} holds {len(codes):,} colours: it is no mask")
            # Read as a mask too, for what is said of lossy compression and of transparent pixels.
            read_mask(path, colours={place: colour_of(int(code)) for place, code in enumerate(codes)})
            return Found(codes, is_colours=True, counts=counts)
        values, counts = values_in(read_mask(path))
        return Found(values, palette=palette, counts=counts)
    except BadImageError as error:
        return Found(np.zeros(0, dtype=np.int64), problem=str(error))


def values_in(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a mask, rising, and how many pixels each has."""
    if mask.dtype == np.uint8:
        counts = np.bincount(mask.reshape(-1), minlength=256)
        values = np.flatnonzero(counts).astype(np.int64)
        return values, counts[values]
    values, counts = np.unique(mask, return_counts=True)
    return values.astype(np.int64), counts


def colour_of(code: int) -> Colour:
    """Return red, green and blue of a colour's number."""
    return code >> 16, code >> 8 & 255, code & 255


def code_of(colour: Sequence[int]) -> int:
    """Return the number of a colour."""
    return int(colour[0]) << 16 | int(colour[1]) << 8 | int(colour[2])


def _mode_of(path: str) -> tuple[str, np.ndarray | None]:
    """Return the kind of samples as Pillow names it, "" of what it cannot open, and the palette."""
    try:
        with Image.open(path) as image:
            held = image.getpalette() if image.mode == "P" else None
            palette = None
            if held is not None:
                palette = np.zeros((256, 3), dtype=np.uint8)
                palette[: len(held) // 3] = np.array(held[:768], dtype=np.uint8).reshape(-1, 3)
            return image.mode, palette
    except Exception:  # noqa: BLE001  # whatever is wrong, the reader of masks says it
        return "", None


def compare_sizes(root: str, images: Sequence[str], masks: Sequence[str]) -> dict[int, str]:
    """Return what is wrong with the sizes of images and their masks, by place, as far as headers tell.

    Of more than ``_MOST_CHECKED`` pairs none is looked at: those that differ are found when they are read.
    """
    if len(images) > _MOST_CHECKED:
        return {}
    with ThreadPoolExecutor(_THREADS) as pool:
        problems = pool.map(lambda pair: _compare(root, *pair), zip(images, masks, strict=True))
        return {place: problem for place, problem in enumerate(problems) if problem}


def _compare(root: str, image: str, mask: str) -> str:
    try:
        sizes = [image_size(os.path.join(root, path))[:2] for path in (image, mask)]
    except BadImageError as error:
        return f"{error}; left out"
    if sizes[0] == sizes[1]:
        return ""
    (width, height), (mask_width, mask_height) = sizes
    return f"{mask} has {mask_width} x {mask_height} pixels, and {image} {width} x {height}; left out"
