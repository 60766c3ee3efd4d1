"""Colours of classes, chosen to be told apart."""

from functools import lru_cache

import cv2
import numpy as np

from .theme import GREY, IGNORED, Colour

# From the palette of Okabe and Ito, which colour-blind people can tell apart.
_FIRST = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (240, 228, 66))
_LEVELS = np.linspace(0, 255, 15).astype(np.uint8)


@lru_cache(maxsize=16)
def class_colours(count: int) -> np.ndarray:
    """Return colours of classes, [count, 3], uint8, RGB: all different, the first ones as different as they can be.

    The colour of a class does not depend on the number of classes.

    Example:
        >>> class_colours(3).tolist()
        [[0, 114, 178], [230, 159, 0], [0, 158, 115]]
    """
    # In steps of 64, so that few choices are computed and remembered; the first ones are the same in all.
    chosen = _choose_apart(min(256, 64 * -(-count // 64)))[:count]
    if count > len(chosen):
        # An odd factor visits each of the 2**24 colours once before it repeats one.
        codes = (np.arange(count, dtype=np.int64) * 0x9E3779 + 0x5A5A5A) % 2**24
        others = codes[~np.isin(codes, chosen.astype(np.int64) @ (65536, 256, 1))][: count - len(chosen)]
        chosen = np.concatenate([chosen, np.stack([others >> 16, others >> 8, others], axis=1).astype(np.uint8)])
    return chosen


def pick_class_colours(classes: np.ndarray) -> list[Colour]:
    """Return the colour of each class number; one that is not known is below 0 and grey."""
    palette = class_colours(max(1, int(classes.max(initial=0)) + 1))
    grey = np.array(GREY, dtype=np.uint8)
    rows = [palette[number] if number >= 0 else grey for number in classes.tolist()]
    return [(int(row[0]), int(row[1]), int(row[2])) for row in rows]


@lru_cache(maxsize=4)
def _choose_apart(count: int) -> np.ndarray:
    """Choose colours, each as far as it can be from those before, from grey, black and white."""
    grid = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    # Distances in CIELAB follow what people see; dark colours are hard to tell from black.
    lab = _to_lab(grid)
    usable = lab[:, 0] > 35
    grid, lab = grid[usable], lab[usable]
    distance = np.full(len(grid), np.inf)
    first = np.array(_FIRST, dtype=np.uint8)
    for taken in _to_lab(np.concatenate([first, np.array([IGNORED, (0, 0, 0), (255, 255, 255)], dtype=np.uint8)])):
        distance = np.minimum(distance, ((lab - taken) ** 2).sum(axis=1))
    # Greedy: each colour is the one that is farthest from its nearest predecessor.
    chosen = []
    for _ in range(count - len(first)):
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((lab - lab[chosen[-1]]) ** 2).sum(axis=1))
    return np.concatenate([first, grid[chosen]])


def _to_lab(colours: np.ndarray) -> np.ndarray:
    lab: np.ndarray = cv2.cvtColor(colours.reshape(1, -1, 3).astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)[0]
    return lab
