"""Made-up photographs of wheat fields in the layout and formats of Global Wheat Detection.

Each source is a field with its own soil, leaves, heads and light. What makes them hard: leaves and stems have the
colours of the heads, heads overlap and are half hidden, lie in every direction, and reach over the image's edge. A head
is told by its shape and by its rows of grains.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

COLUMNS = ("image_id", "width", "height", "bbox", "source")
SIZE = 192
SMALLEST_VISIBLE = 0.4  # of a head's pixels, from which on it is labelled

_ZOOM = 2  # drawn so much larger, for smooth edges
_NUMBERED = 256  # side in pixels of an image with as many heads and leaves as a field says
_QUALITY = 92
_EMPTY_EVERY = 13  # not a multiple of the number of fields
_Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Field:
    """The look of a source: RGB colours, lengths in pixels, and numbers of heads and leaves on 256 x 256 pixels."""

    source: str
    soil: _Colour
    leaf: _Colour
    head: _Colour
    length: tuple[float, float]
    heads: tuple[int, int]
    leaves: tuple[int, int]
    awns: float
    light: float


FIELDS = (
    Field("green_1", (96, 78, 60), (84, 122, 58), (134, 156, 92), (26, 38), (9, 20), (60, 90), 0.9, 1.0),
    Field("ripe_1", (150, 126, 96), (168, 148, 84), (200, 172, 108), (28, 44), (8, 18), (40, 70), 0.6, 1.1),
    Field("dense_1", (70, 64, 46), (112, 124, 60), (160, 158, 90), (22, 32), (16, 30), (70, 100), 0.2, 0.9),
    Field("shade_1", (58, 54, 50), (58, 84, 54), (98, 112, 72), (30, 48), (5, 12), (30, 60), 1.0, 0.8),
)


def make_data(folder: Path, count: int = 200, size: int = SIZE) -> None:
    """Write ``train.csv`` and ``train/*.jpg``, the same each time; one image of thirteen shows no head.

    Args:
        folder: empty.
        count: number of images.
        size: width and height of the images in pixels.
    """
    (folder / "train").mkdir()
    with open(folder / "train.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for index in range(count):
            field = FIELDS[index % len(FIELDS)]
            rng = np.random.default_rng((2020, index))
            image, boxes = draw_field(field, rng, size, bare=index % _EMPTY_EVERY == _EMPTY_EVERY - 1)
            image_id = rng.bytes(5).hex()
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / "train" / f"{image_id}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
            rows.writerows((image_id, size, size, str(box), field.source) for box in boxes)


def draw_field(
    field: Field, rng: np.random.Generator, size: int = SIZE, *, bare: bool = False
) -> tuple[np.ndarray, list[list[float]]]:
    """Draw an image.

    Args:
        field: what it looks like.
        rng: all chance comes from it.
        size: width and height of the image in pixels.
        bare: whether it is to show no head.

    Returns:
        [size, size, 3], uint8, RGB; and the boxes [left, top, width, height] of what is seen of each head, less awns.
    """
    side = size * _ZOOM
    share = (size / _NUMBERED) ** 2
    canvas = _soil(field, rng, side)
    owner = np.zeros((side, side), dtype=np.int32)  # number of the head that a pixel shows
    for _ in range(int(rng.integers(*field.leaves) * share)):
        _leaf(canvas, owner, field, rng)
    count = 0 if bare else int(rng.integers(*field.heads) * share)
    areas = [_head(canvas, owner, number, field, rng) for number in range(1, count + 1)]
    for _ in range(int(rng.integers(2, 8) * share)):
        _leaf(canvas, owner, field, rng)
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return _photograph(small, field, rng), _boxes(owner, areas)


def _soil(field: Field, rng: np.random.Generator, side: int) -> np.ndarray:
    lightness = 1.0 + 0.16 * _noise(rng, side, 8) + 0.14 * _noise(rng, side, side // 6)
    return (np.array(field.soil, dtype=np.float32) * lightness[..., None]).astype(np.float32)


def _noise(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    coarse = rng.standard_normal((cells, cells)).astype(np.float32)
    smooth: np.ndarray = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return smooth


def _leaf(canvas: np.ndarray, owner: np.ndarray, field: Field, rng: np.random.Generator) -> None:
    """Draw a bent leaf or a stem over what is there; every third one has the colour of the heads."""
    side = len(canvas)
    start, angle = rng.uniform(-0.1, 1.1, 2) * side, rng.uniform(0, 2 * np.pi)
    length, width = rng.uniform(60, 300), rng.choice([3.0, rng.uniform(8, 22)])
    along = np.linspace(0, 1, 14)[:, None]
    angles = angle + rng.normal(0, 0.7) * along
    spine = start + np.cumsum(length / 14 * np.concatenate([np.cos(angles), np.sin(angles)], axis=1), axis=0)
    normal = np.concatenate([-np.sin(angles), np.cos(angles)], axis=1)
    half = normal * width / 2 * np.sqrt(np.sin(np.pi * (0.1 + 0.89 * along)))
    outline = np.rint(np.concatenate([spine + half, (spine - half)[::-1]])).astype(np.int32)
    colour = _shade(field.head if rng.random() < 0.35 else field.leaf, rng, 0.14)
    cv2.fillPoly(owner, [outline], 0)
    cv2.fillPoly(canvas, [outline], colour)
    cv2.polylines(canvas, [np.rint(spine).astype(np.int32)], False, [level * 0.85 for level in colour], 2)


def _head(canvas: np.ndarray, owner: np.ndarray, number: int, field: Field, rng: np.random.Generator) -> int:
    """Draw a head, rows of grains along a bent axis with awns and a stem; return the number of its pixels."""
    side = len(canvas)
    length = rng.uniform(*field.length) * _ZOOM
    width = length * rng.uniform(0.24, 0.34)
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.25)
    colour = _shade(field.head, rng, 0.10)
    middle = rng.uniform(0.0, 1.0, 2) * side
    along = np.linspace(-0.5, 0.5, max(5, int(length / 7)))
    angles = angle + bend * along
    ahead = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    across = ahead[:, ::-1] * (-1, 1)
    spine = middle + along[:, None] * length * ahead
    _line(canvas, spine[0], spine[0] - ahead[0] * length * 1.5, [level * 0.9 for level in colour], 4)
    if rng.random() < field.awns:
        for place in rng.integers(0, len(along), 14):
            tip = spine[place] + length * 0.7 * ahead[place] + rng.normal(0, 0.28) * length * across[place]
            _line(canvas, spine[place], tip, [level * 1.08 for level in colour], 1)
    body = np.zeros((side, side), dtype=np.uint8)
    for place, (point, forward, sideways) in enumerate(zip(spine, ahead, across, strict=True)):
        bulge = width * np.sqrt(1.02 - (2 * along[place]) ** 2 * 0.75)
        for edge in (-0.3, 0.3, 0.0):
            centre = point + sideways * bulge * edge
            axes = (length / len(along) * 0.95, bulge * 0.26)
            tilt = np.degrees(np.arctan2(forward[1], forward[0])) + 80 * edge
            grain = rng.uniform(0.82, 1.16) * (1.06 if edge == 0.0 else 0.94)
            shade = [level * grain for level in colour]
            box = (tuple(centre.tolist()), tuple(2 * axis for axis in axes), float(tilt))
            cv2.ellipse(canvas, box, shade, -1, cv2.LINE_AA)
            cv2.ellipse(canvas, box, [level * 0.62 for level in colour], 1, cv2.LINE_AA)
            cv2.ellipse(body, box, 1, -1)
    owner[body > 0] = number
    return int(body.sum())


def _line(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, colour: list[float], thickness: int) -> None:
    first, last = np.rint(start).astype(int).tolist(), np.rint(end).astype(int).tolist()
    cv2.line(canvas, first, last, colour, thickness, cv2.LINE_AA)


def _shade(colour: _Colour, rng: np.random.Generator, spread: float) -> list[float]:
    """Return a colour that is lighter or darker, and a little yellower or greener."""
    levels = np.array(colour) * rng.normal(1.0, spread) * rng.normal(1.0, 0.03, 3)
    return [float(level) for level in levels.clip(10, 245)]


def _photograph(image: np.ndarray, field: Field, rng: np.random.Generator) -> np.ndarray:
    """Return the image under the field's light, a little blurred, with the noise of a camera."""
    light = field.light * (1.0 + 0.12 * _noise(rng, len(image), 3))
    seen = cv2.GaussianBlur(image * light[..., None], (0, 0), rng.uniform(0.4, 0.8))
    noisy: np.ndarray = np.rint(seen + rng.normal(0, 4.0, seen.shape))
    return noisy.clip(0, 255).astype(np.uint8)


def _boxes(owner: np.ndarray, areas: list[int]) -> list[list[float]]:
    boxes = []
    for number, area in enumerate(areas, start=1):
        rows, columns = np.nonzero(owner == number)
        if area and len(rows) >= SMALLEST_VISIBLE * area:
            corner = np.array([columns.min(), rows.min()]) // _ZOOM
            opposite = -(-np.array([columns.max() + 1, rows.max() + 1]) // _ZOOM)
            boxes.append([float(value) for value in (*corner, *(opposite - corner))])
    return boxes
