"""Generate aerial pictures in the layout and the formats of the Inria data set.

A tile shows streets, houses, trees, cars, paved yards, courts and pools in the light of one sun. Roofs have the
colours of streets, yards, soil and meadows, and yards have the shape of roofs: what tells a house is its shadow, its
ridge, its edges and all of these together. Colour, light, blur and noise differ from tile to tile.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from assay.runner import mix

from .scene import Scene, draw_scene

SIDE = 384
TRAINED, VALIDATED, UNLABELLED = 12, 5, 2


@dataclass(frozen=True)
class City:
    """What the tiles of a city have in common.

    Attributes:
        name: as in the file names.
        grounds: two colours that the ground is mixed of, RGB.
        street_angle: direction of the streets, degrees.
        block: distance of the streets, pixels.
        sun: where shadows fall, degrees.
    """

    name: str
    grounds: tuple[tuple[int, int, int], tuple[int, int, int]]
    street_angle: float
    block: int
    sun: float


CITIES = (
    City("austin", ((112, 122, 84), (150, 140, 112)), 12, 96, 40),
    City("vienna", ((128, 126, 122), (94, 110, 78)), -28, 84, 65),
)
_TEST_CITY = City("sfo", ((134, 124, 104), (104, 116, 90)), 33, 90, 50)

# How a file's pixels are stored: one strip a few rows, or square parts; nothing is compressed, as in the real set.
_STORED = ({"blockysize": 16}, {"tiled": True, "blockxsize": 128, "blockysize": 128})


def make_tiles(folder: Path) -> None:
    """Fill a folder with ``train/images``, ``train/gt`` and ``test/images``, the same each time."""
    for part in ("train/images", "train/gt", "test/images"):
        (folder / part).mkdir(parents=True)
    for index, city in enumerate(CITIES):
        for number in range(1, VALIDATED + TRAINED + 1):
            scene = draw_scene(city, SIDE, np.random.default_rng(mix(index, number)))
            _write_tile(folder / "train", f"{city.name}{number}", scene, number)
    for number in range(1, UNLABELLED + 1):
        scene = draw_scene(_TEST_CITY, SIDE, np.random.default_rng(mix(len(CITIES), number)))
        write_tiff(folder / "test" / "images" / f"{_TEST_CITY.name}{number}.tif", scene.image, number)


def _write_tile(folder: Path, name: str, scene: Scene, number: int) -> None:
    write_tiff(folder / "images" / f"{name}.tif", scene.image, number)
    write_tiff(folder / "gt" / f"{name}.tif", scene.mask, number)


def write_tiff(path: Path, pixels: np.ndarray, number: int = 0) -> None:
    """Write [H, W, 3] or [H, W], uint8, as an uncompressed TIFF: striped for an even number, tiled for an odd one."""
    bands = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    count, height, width = bands.shape
    colours = {"photometric": "RGB"} if count == 3 else {}
    size: dict[str, Any] = {"height": height, "width": width, "count": count, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # nor does a made-up place lie anywhere
        with rasterio.open(
            path, "w", driver="GTiff", interleave="pixel", **size, **colours, **_STORED[number % 2]
        ) as file:
            file.write(bands)
