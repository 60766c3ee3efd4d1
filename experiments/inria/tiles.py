"""The tiles of the Inria data set: finding them, and reading a part of one.

Files stay open for the next window, and of an uncompressed TIFF only the rows or parts that a window touches are read.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from assay.callbacks import UsageError
from assay.runner import BadImageError, images_in, keep_mask_open, keep_open, open_image

IGNORED = 255
"""Target of pixels that do not count: outside of the tile, or without a truth."""

_VALIDATED = range(1, 6)
_NAME = re.compile(r"(?P<city>.*\D)(?P<number>\d+)\.tiff?")


@dataclass(frozen=True)
class Tile:
    """One file of the data set.

    Attributes:
        image: path of the picture.
        mask: path of its truth; None in the test set.
        city: as in the file name; "" where that is no city and a number.
        number: of the tile within its city, as its name gives it; None where it gives none.
        height: pixels.
        width: pixels.
    """

    image: Path
    mask: Path | None
    city: str
    number: int | None
    height: int
    width: int

    @property
    def name(self) -> str:
        """City and number; the name of the file where that is something else."""
        return self.image.stem if self.number is None else f"{self.city}{self.number}"


def find_tiles(root: Path) -> tuple[list[Tile], list[Tile]]:
    """Return the tiles to train on and those to validate on, by city and number: 1 to 5 of each city are held out.

    Raises:
        UsageError: there are none of either, a name is not a city and a number, a mask is missing or has no image,
            or an image and its mask differ in size.
    """
    images, masks = root / "train" / "images", root / "train" / "gt"
    paths, truths = list_tiffs(images), {path.name: path for path in list_tiffs(masks)}
    for path in paths:
        if path.name not in truths:
            raise UsageError(f"{path} has no mask: {masks / path.name} is not there.")
    for name in sorted(truths.keys() - {path.name for path in paths}):
        raise UsageError(f"the mask {truths[name]} has no image: {images / name} is not there.")
    tiles = _sorted(_tile(path, truths[path.name]) for path in paths)
    train, valid = ([tile for tile in tiles if (tile.number in _VALIDATED) is held_out] for held_out in (False, True))
    for part, purpose, numbers in ((train, "train", "from 6 on"), (valid, "validate", "from 1 to 5")):
        if not part:
            raise UsageError(f"{images} holds no tile to {purpose} on: these have the numbers {numbers}.")
    return train, valid


def tile_of(path: Path, name: str) -> Tile:
    """Return a picture that may be called anything as a tile without a mask."""
    parts = _NAME.fullmatch(Path(name).name.lower())
    city, number = (parts["city"], int(parts["number"])) if parts else ("", None)
    return Tile(path, None, city, number, *_size(path))


def find_unlabelled(root: Path) -> list[Tile]:
    """Return the tiles without truth.

    Raises:
        UsageError: there are none.
    """
    return _sorted(_tile(path, None) for path in list_tiffs(root / "test" / "images"))


def list_tiffs(folder: Path) -> list[Path]:
    """Return the TIFF files of a folder, by name.

    Raises:
        UsageError: there is no such folder, none in it, or an image of another kind.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not there: data_dir must hold train/images, train/gt and test/images.")
    paths = images_in(folder, ".tif", ".tiff", ".TIF", ".TIFF")
    if not paths:
        raise UsageError(f"{folder} holds no .tif file.")
    return paths


def _tile(path: Path, mask: Path | None) -> Tile:
    parts = _NAME.fullmatch(path.name.lower())
    if parts is None:
        raise UsageError(f"{path} must be named by its city and number, as austin1.tif.")
    size = _size(path)
    if mask is not None and _size(mask) != size:
        raise UsageError(f"{path} is {_in_words(size)} pixels, and its mask {mask} is {_in_words(_size(mask))}.")
    return Tile(path, mask, parts["city"], int(parts["number"]), *size)


def _size(path: Path) -> tuple[int, int]:
    try:
        with open_image(path) as image:
            return image.height, image.width
    except BadImageError as error:
        raise UsageError(f"{error}.") from error


def _in_words(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _sorted(tiles: Iterable[Tile]) -> list[Tile]:
    return sorted(tiles, key=lambda tile: (tile.city, tile.number or 0))


def read_window(tile: Tile, top: int, left: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Return a part of a tile; what lies outside of the tile mirrors it and is ``IGNORED`` in the target.

    Returns:
        ``image`` [height, width, 3], and ``target`` [height, width] with 0, 1 and ``IGNORED``, without a mask only the
        latter; uint8.

    Raises:
        BadImageError: a file cannot be read, or the mask holds other values than 0 and 255, or 0 and 1.
    """
    above, before = max(0, -top), max(0, -left)
    inside = (top + above, left + before, min(top + height, tile.height), min(left + width, tile.width))
    rows, columns = inside[2] - inside[0], inside[3] - inside[1]
    around = (above, height - above - rows, before, width - before - columns)
    image = keep_open(tile.image).read(*inside[:2], rows, columns)
    target = np.full((rows, columns), IGNORED, np.uint8)
    if tile.mask is not None:
        target = _decided(keep_mask_open(tile.mask).read(*inside[:2], rows, columns), tile.mask)
    if any(around):
        image = cv2.copyMakeBorder(image, *around, cv2.BORDER_REFLECT)
        target = cv2.copyMakeBorder(target, *around, cv2.BORDER_CONSTANT, value=(IGNORED,))
    return {"image": image, "target": target}


def _decided(mask: np.ndarray, path: Path) -> np.ndarray:
    house = 1 if mask.max() == 1 else 255  # of one bit, and of a palette of two colours
    decided: np.ndarray = cv2.compare(mask, house, cv2.CMP_EQ) & 1
    if cv2.countNonZero(decided) != cv2.countNonZero(mask):
        found = ", ".join(map(str, np.unique(mask)[:8]))
        raise BadImageError(f"mask {str(path)!r} must hold 0 and 255 alone, got {found}")
    return decided
