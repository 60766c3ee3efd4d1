"""Pictures that look like small photographs: objects of some classes before textured, lit backgrounds, drawn anew."""

from functools import cache

import numpy as np

CLASSES = ("disk", "ring", "square", "cross", "rows", "columns")


@cache
def classes(count, *, side=24, seed=0, kinds=6, shares=None):
    """Return items with ``image``, [side, side, 3] uint8, ``target`` and ``sample_id``; each picture has one object."""
    chance = np.random.default_rng(seed)
    # Shuffled, as classes in an order are a fault of their own.
    targets = chance.permutation(np.arange(count) % kinds) if shares is None else chance.choice(kinds, count, p=shares)
    return tuple(
        {"image": _picture(int(target), side, chance), "target": int(target), "sample_id": f"{seed}-{index:04d}"}
        for index, target in enumerate(targets)
    )


@cache
def scenes(count, *, side=32, seed=0):
    """Return items with ``image``, ``mask`` [side, side] uint8 of 0 (ground), 1 (disks) and 2 (squares), ``bboxes``
    [M, 4] as x0, y0, x1, y1 in pixels, and ``labels`` [M] of 1 and 2.
    """  # fmt: skip
    chance = np.random.default_rng(seed)
    return tuple({**_scene(side, chance), "sample_id": f"{seed}-{index:04d}"} for index in range(count))


@cache
def ages(count, *, side=24, seed=0):
    """Return items whose target is a number from 0 to 1: the size of the disk that they show."""
    chance = np.random.default_rng(seed)
    items = []
    for index in range(count):
        age = float(chance.uniform())
        radius = side * (0.1 + 0.35 * age)
        image = _ground(side, chance)
        _paint(image, _inside(0, side, _middle(side, chance), radius), chance)
        items.append({"image": _noisy(image, chance), "target": np.float32(age), "sample_id": f"{seed}-{index:04d}"})
    return tuple(items)


@cache
def tags(count, *, side=24, seed=0):
    """Return items whose target is [3] of 0 and 1: which of a disk, a square and a cross they show."""
    chance = np.random.default_rng(seed)
    items = []
    for index in range(count):
        shown = (chance.uniform(size=3) < (0.5, 0.4, 0.3)).astype(np.float32)
        image = _ground(side, chance)
        for number in np.flatnonzero(shown):
            middle = chance.uniform(side * 0.25, side * 0.75, 2)
            _paint(image, _inside((0, 2, 3)[number], side, middle, side * 0.2), chance, hue=number)
        items.append({"image": _noisy(image, chance), "target": shown, "sample_id": f"{seed}-{index:04d}"})
    return tuple(items)


def _picture(kind, side, chance):
    image = _ground(side, chance)
    _paint(image, _inside(kind, side, _middle(side, chance), side * chance.uniform(0.27, 0.4)), chance)
    return _noisy(image, chance)


def _scene(side, chance):
    image, mask = _ground(side, chance), np.zeros((side, side), np.uint8)
    boxes, labels = [], []
    for _ in range(chance.integers(1, 4)):
        kind = int(chance.integers(2))
        inside = _inside(
            (0, 2)[kind], side, chance.uniform(side * 0.2, side * 0.8, 2), side * chance.uniform(0.12, 0.2)
        )
        inside &= mask == 0
        if inside.sum() < 12:
            continue
        _paint(image, inside, chance, hue=2 * kind)
        mask[inside] = 1 + kind
        rows, columns = np.nonzero(inside)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        labels.append(1 + kind)
    return {
        "image": _noisy(image, chance), "mask": mask,
        "bboxes": np.array(boxes, np.float32).reshape(-1, 4), "labels": np.array(labels, np.int64),
    }  # fmt: skip


def _middle(side, chance):
    return side / 2 + chance.uniform(-side / 10, side / 10, 2)


def _inside(kind, side, middle, radius):
    """Return where an object is, [side, side] bool."""
    rows, columns = np.mgrid[:side, :side] + 0.5
    y, x = (rows - middle[1]) / radius, (columns - middle[0]) / radius
    far, square = np.hypot(x, y), np.maximum(abs(x), abs(y))
    return (
        far < 1,
        (far < 1.05) & (far > 0.6),
        square < 0.85,
        (square < 1) & (np.minimum(abs(x), abs(y)) < 0.28),
        (square < 1) & (np.floor(y * 2.5) % 2 == 0),
        (square < 1) & (np.floor(x * 2.5) % 2 == 0),
    )[kind]


def _ground(side, chance):
    """Return a background, [side, side, 3] from 0 to 1: light from above, a warm colour, and soft texture."""
    rows, columns = np.mgrid[:side, :side] / side
    light = 0.55 - 0.3 * rows + 0.05 * chance.standard_normal()
    for _ in range(3):
        across, down, phase = chance.uniform(-9, 9), chance.uniform(-9, 9), chance.uniform(0, 6.3)
        light = light + 0.04 * np.sin(across * columns + down * rows + phase)
    colour = np.array([1.1, 0.85, 0.6]) + 0.08 * chance.standard_normal(3)
    return light[:, :, None] * colour


def _paint(image, inside, chance, hue=None):
    colour = chance.uniform(0.6, 1.0, 3) * (0.95, 0.9, 0.8)
    if hue is not None:
        colour = np.roll([0.9, 0.35, 0.3], hue) + 0.06 * chance.standard_normal(3)
    image[inside] = colour


def _noisy(image, chance):
    noise = chance.normal(0, 0.04, image.shape)
    return (np.clip(image + noise, 0, 1) * 255).round().astype(np.uint8)
