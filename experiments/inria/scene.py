"""Drawing one made-up tile: ground, streets, houses with roofs and shadows, and what may be taken for a house."""

from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

Colour = tuple[float, float, float]

# Each occurs on roofs and on the ground: asphalt, slate, concrete, clay, tile, sand, metal, moss.
SURFACES: tuple[Colour, ...] = (
    (104, 104, 106), (72, 74, 82), (158, 154, 148), (150, 98, 76),
    (128, 82, 68), (172, 152, 122), (192, 194, 196), (104, 116, 86),
)  # fmt: skip
_SHADE = 0.38


class Place(Protocol):
    """What a scene needs to know of its city."""

    @property
    def grounds(self) -> tuple[tuple[int, int, int], tuple[int, int, int]]: ...
    @property
    def street_angle(self) -> float: ...
    @property
    def block(self) -> int: ...
    @property
    def sun(self) -> float: ...


@dataclass
class Scene:
    """A picture in the making.

    Attributes:
        image: [S, S, 3]; float32 until it is developed, then uint8.
        mask: [S, S], uint8, 255 on houses.
        taken: [S, S], uint8, where nothing else may stand.
        rng: where all chance comes from.
        shadow: where shadows fall, a unit vector (x, y).
    """

    image: np.ndarray
    mask: np.ndarray
    taken: np.ndarray
    rng: np.random.Generator
    shadow: np.ndarray = field(default_factory=lambda: np.zeros(2))

    @property
    def side(self) -> int:
        """S."""
        return len(self.mask)

    def surface(self) -> np.ndarray:
        """Return one of the surfaces, a little lighter or darker."""
        colour = np.array(SURFACES[self.rng.integers(len(SURFACES))])
        return colour * self.rng.uniform(0.82, 1.15) + self.rng.normal(0, 5, 3)

    def free_place(self, width: float, height: float, angle: float, gap: float = 2) -> np.ndarray | None:
        """Return a rectangle [4, 2] that fits in somewhere, and take its place; None where all tries fail."""
        for _ in range(24):
            centre = self.rng.uniform(0, self.side, 2)
            needed, place = self.drawn(rectangle(centre, width + 2 * gap, height + 2 * gap, angle))
            if not cv2.countNonZero(needed & self.taken[place]):
                self.taken[place] |= needed
                return rectangle(centre, width, height, angle)
        return None

    def darken(self, shape: np.ndarray, length: float) -> None:
        """Let a shape [N, 2] that is ``length`` pixels of shadow high darken the ground."""
        hull = cv2.convexHull(np.concatenate([shape, shape + self.shadow * length]).astype(np.float32))[:, 0]
        shade, place = self.drawn(hull)
        self.image[place] *= 1 - (1 - _SHADE) * cv2.GaussianBlur(shade.astype(np.float32), (0, 0), 0.7)[..., None]

    def drawn(self, shape: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
        """Return a mask, uint8, that is 1 on a shape [N, 2] and has some room around it, and where it lies."""
        left, top = np.clip(shape.min(axis=0).astype(int) - 5, 0, self.side - 1)
        right, bottom = np.clip(shape.max(axis=0).astype(int) + 6, 1, self.side)
        mask = np.zeros((max(1, bottom - top), max(1, right - left)), np.uint8)
        fill(mask, shape - (left, top), 1)
        return mask, (slice(top, top + len(mask)), slice(left, left + mask.shape[1]))


def draw_scene(city: Place, side: int, rng: np.random.Generator) -> Scene:
    """Return a tile of a city as a camera sees it, with its mask."""
    scene = Scene(_ground(city, side, rng), np.zeros((side, side), np.uint8), np.zeros((side, side), np.uint8), rng)
    sun = np.deg2rad(city.sun + rng.uniform(-12, 12))
    scene.shadow = np.array([np.cos(sun), np.sin(sun)])
    _streets(scene, city)
    area = side**2 / 384**2
    for draw, count in ((_yard, 9), (_house, 130), (_car, 70), (_tree, 90)):
        for _ in range(round(count * area)):
            angle = city.street_angle + 90 * rng.integers(2) + rng.normal(0, 3)
            draw(scene, angle)
    return _develop(scene)


def rectangle(centre: np.ndarray, width: float, height: float, angle: float) -> np.ndarray:
    """Return the corners [4, 2] of a rectangle around a centre (x, y), turned by some degrees."""
    turn = np.deg2rad(angle)
    along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
    corners: np.ndarray = centre + signs[:, :1] * width * along + signs[:, 1:] * height * across
    return corners


def fill(image: np.ndarray, shape: np.ndarray, colour: float | np.ndarray) -> None:
    """Fill a polygon [N, 2] of points (x, y), placed to 1/16 pixel."""
    value = (float(colour),) if np.ndim(colour) == 0 else tuple(float(part) for part in np.asarray(colour))
    cv2.fillPoly(image, [np.round(shape * 16).astype(np.int32)], value, shift=4)


def _noise(rng: np.random.Generator, side: int, grain: float) -> np.ndarray:
    """Return smooth noise [side, side, 1] of unit variance with spots of ``grain`` pixels."""
    small = rng.normal(size=(max(2, round(side / grain)),) * 2).astype(np.float32)
    spots: np.ndarray = cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)[..., None]
    return spots


def _ground(city: Place, side: int, rng: np.random.Generator) -> np.ndarray:
    first, second = (np.array(colour, np.float32) + rng.normal(0, 8, 3) for colour in city.grounds)
    share = np.clip(0.5 + 0.5 * _noise(rng, side, 48), 0, 1)
    ground: np.ndarray = first * share + second * (1 - share)
    ground = ground + 7 * _noise(rng, side, 6) + 5 * _noise(rng, side, 2)
    return ground.astype(np.float32, copy=False)


def _streets(scene: Scene, city: Place) -> None:
    asphalt = np.array(SURFACES[0]) * scene.rng.uniform(0.8, 1.3)
    for angle in (city.street_angle, city.street_angle + 90):
        step = np.deg2rad(angle + 90)
        across = np.array([np.cos(step), np.sin(step)])
        first = scene.rng.uniform(0, city.block)
        for offset in np.arange(first - scene.side, scene.side, city.block):
            centre = scene.side / 2 + across * offset
            width = scene.rng.uniform(8, 12)
            fill(scene.image, rectangle(centre, 3 * scene.side, width + 4, angle), np.array(SURFACES[2]) * 0.95)
            fill(scene.image, rectangle(centre, 3 * scene.side, width, angle), asphalt)
            fill(scene.taken, rectangle(centre, 3 * scene.side, width + 6, angle), 1)


def _house(scene: Scene, angle: float) -> None:
    rng = scene.rng
    width, height = rng.uniform(19, 42), rng.uniform(15, 26)
    shape = scene.free_place(width, height, angle)
    if shape is None:
        return
    scene.darken(shape, rng.uniform(4, 9))
    parts = [shape]
    if rng.random() < 0.35:  # a wing, at one end
        middle = (shape[0] + shape[3]) / 2 + (shape[1] - shape[0]) / width * height * 0.3
        wing = rectangle(middle + (shape[3] - shape[0]) * 0.45, height * 0.6, height, angle)
        fill(scene.taken, wing, 1)
        scene.darken(wing, 5)
        parts.append(wing)
    colour, kind = scene.surface(), rng.random()
    for part in parts:
        fill(scene.mask, part, 255)
        (_flat_roof if kind < 0.4 else _pitched_roof)(scene, part, colour)


def _flat_roof(scene: Scene, shape: np.ndarray, colour: np.ndarray) -> None:
    fill(scene.image, shape, colour * 1.25)
    centre = shape.mean(axis=0)
    fill(scene.image, centre + (shape - centre) * 0.9, colour)
    for _ in range(scene.rng.integers(3)):  # what stands on it
        spot = centre + (shape[scene.rng.integers(4)] - centre) * scene.rng.uniform(0.1, 0.6)
        box = rectangle(spot, 3, 3, scene.rng.uniform(0, 90))
        fill(scene.image, box + scene.shadow * 1.5, colour * 0.6)
        fill(scene.image, box, colour * 1.25)


def _pitched_roof(scene: Scene, shape: np.ndarray, colour: np.ndarray) -> None:
    """Draw a ridge along the longer side, hipped or not: each side is as light as it faces the sun."""
    if np.linalg.norm(shape[1] - shape[0]) < np.linalg.norm(shape[2] - shape[1]):
        shape = np.roll(shape, 1, axis=0)
    hip = scene.rng.uniform(0.15, 0.4) if scene.rng.random() < 0.5 else 0.0
    ends = (shape[0] + shape[3]) / 2, (shape[1] + shape[2]) / 2
    first, last = ends[0] + (ends[1] - ends[0]) * hip, ends[1] + (ends[0] - ends[1]) * hip
    sides = (
        [shape[0], shape[1], last, first], [shape[2], shape[3], first, last],
        [shape[3], shape[0], first], [shape[1], shape[2], last],
    )  # fmt: skip
    centre = shape.mean(axis=0)
    for side in sides:
        outward = (side[0] + side[1]) / 2 - centre
        facing = -float(outward @ scene.shadow) / max(1e-6, float(np.linalg.norm(outward)))
        fill(scene.image, np.array(side), colour * (1 + 0.25 * facing))


def _yard(scene: Scene, angle: float) -> None:
    """Draw a court, car park, field or pool: shape and colour of a roof, and no height."""
    shape = scene.free_place(scene.rng.uniform(16, 42), scene.rng.uniform(12, 27), angle)
    if shape is None:
        return
    colour, centre = scene.surface(), shape.mean(axis=0)
    if scene.rng.random() < 0.12:
        colour = np.array((96.0, 158.0, 176.0))
    fill(scene.image, shape, colour)
    if scene.rng.random() < 0.5:
        for share in (0.86, 0.8):
            fill(scene.image, centre + (shape - centre) * share, colour * (1.3 if share > 0.83 else 1.0))


def _car(scene: Scene, angle: float) -> None:
    """Park a car, on the street as well: small, in any colour of a roof, with a short shadow."""
    shape = rectangle(scene.rng.uniform(0, scene.side, 2), 6.5, 3, angle)
    inside, place = scene.drawn(shape)
    if not cv2.countNonZero(inside & scene.mask[place]):
        scene.darken(shape, 1.5)
        fill(scene.image, shape, scene.surface())


def _tree(scene: Scene, angle: float) -> None:
    """Plant a tree that may hang over a roof, of which the mask stays what it is."""
    centre, radius = scene.rng.uniform(0, scene.side, 2), scene.rng.uniform(2.5, 6)
    around = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    wave = radius * scene.rng.uniform(0.75, 1.15, 12)[:, None]
    crown = centre + wave * np.stack([np.cos(around), np.sin(around)], axis=1)
    inside, place = scene.drawn(crown)
    if cv2.countNonZero(inside & scene.mask[place]) > 0.35 * cv2.countNonZero(inside):
        return
    scene.darken(crown, radius * 0.9)
    green = np.array((66.0, 86.0, 54.0)) * scene.rng.uniform(0.75, 1.25)
    fill(scene.image, crown, green)
    fill(scene.image, centre - scene.shadow * radius * 0.25 + (crown - centre) * 0.55, green * 1.25)


def _develop(scene: Scene) -> Scene:
    """Return the scene as a camera sees it: texture, light, haze, blur and noise; uint8."""
    rng, image = scene.rng, scene.image
    image = image * (1 + 0.06 * _noise(rng, scene.side, 90)) + 6 * _noise(rng, scene.side, 3)
    image = (image - 128) * rng.uniform(0.9, 1.15) + 128 + rng.uniform(-12, 12) + rng.normal(0, 3, 3)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.5, 0.8))
    image += rng.normal(0, rng.uniform(2, 5), image.shape)
    return Scene(np.clip(np.round(image), 0, 255).astype(np.uint8), scene.mask, scene.taken, rng, scene.shadow)
