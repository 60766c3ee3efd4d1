"""The picture of samples and their truth, before anything is predicted."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from .grid import TILE_SIZE, Card, Colour, draw_grid
from .palette import IGNORED, class_colours
from .pictures import Channels, scale, thumbnail
from .verdict import name_of

_LARGE_TILE = 240  # of images with boxes

Legend = dict[tuple[str, Colour], int]


def draw_truth(
    samples: Mapping[str, Any],
    title: Sequence[str],
    *,
    class_names: Sequence[str] | None = None,
    ignore_index: int | None = None,
    mean: Channels = 0.0,
    std: Channels = 1.0,
) -> np.ndarray:
    """Draw samples with their targets.

    =============================== ===========================================================
    target of a sample              what is shown
    =============================== ===========================================================
    one integer                     name of the class
    one float                       the number
    [C], 0 and 1                    names of the labels
    [H, W] or [1, H, W]             map of class numbers beside the image
    [C, H, W], 0 and 1              likewise; where several overlap, the last one
    dict of ``boxes``, ``labels``   boxes [M, 4] (left, top, right, bottom) in pixels of the image
    anything else, or none          image alone
    =============================== ===========================================================

    Args:
        samples: lists of N each: ``image`` [C, H, W] or [H, W], ``sample_id`` and, where known, ``target``.
        title: lines above the grid.
        class_names: one a class; without, classes are shown by number.
        ignore_index: target value that is shown in grey, or left out.
        mean: of the images' normalization.
        std: of the images' normalization.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    targets = samples.get("target") or [None] * len(samples["image"])
    size = _LARGE_TILE if any(isinstance(target, Mapping) for target in targets) else TILE_SIZE
    cards, legend = [], Legend()
    for image, name, target in zip(samples["image"], samples["sample_id"], targets, strict=True):
        picture = thumbnail(np.asarray(image), size, mean, std)
        panels, lines = [picture], [str(name)]
        if isinstance(target, Mapping) and {"boxes", "labels"} <= target.keys():
            panels = [_boxes(picture, np.asarray(image).shape[-2:], target, class_names, legend)]
            lines.append(f"boxes: {len(np.asarray(target['boxes']).reshape(-1, 4))}")
        elif target is not None and not isinstance(target, Mapping):
            values = np.asarray(target)
            if values.ndim >= 2:
                panels.append(_class_map(values, picture.shape[:2], class_names, ignore_index, legend))
            else:
                lines.append(f"true: {_words(values, class_names, ignore_index)}")
        cards.append(Card(panels, lines))
    entries = sorted(legend, key=legend.__getitem__, reverse=True)
    return draw_grid(cards, title, tile_size=size, legend=entries)


def _words(values: np.ndarray, class_names: Sequence[str] | None, ignore_index: int | None) -> str:
    if values.size == 1:
        number = values.item()
        if isinstance(number, float):
            return f"{number:.4g}"
        return "ignored" if number == ignore_index else name_of(int(number), class_names)
    if values.ndim == 1 and np.isin(values, [0, 1, ignore_index or 0]).all():
        return ", ".join(name_of(int(index), class_names) for index in np.flatnonzero(values == 1)) or "no label"
    return f"{values.size} numbers"


def _class_map(
    values: np.ndarray,
    shape: Sequence[int],
    class_names: Sequence[str] | None,
    ignore_index: int | None,
    legend: Legend,
) -> np.ndarray:
    if values.ndim == 3 and len(values) > 1:
        numbers = np.where(values == 1, np.arange(1, len(values) + 1).reshape(-1, 1, 1), 0).max(axis=0) - 1
        ignored = numbers < 0
    else:
        numbers = np.nan_to_num(values.reshape(values.shape[-2:])).astype(np.int64)
        ignored = (numbers < 0) | (numbers == ignore_index)
    counts = np.bincount(numbers[~ignored])
    colours = class_colours(max(1, len(counts)))
    for index in np.flatnonzero(counts).tolist():
        red, green, blue = colours[index].tolist()
        _count(legend, name_of(index, class_names), (red, green, blue), int(counts[index]))
    painted = colours[np.where(ignored, 0, numbers)]
    painted[ignored] = IGNORED
    return scale(painted, (int(shape[0]), int(shape[1])))


def _boxes(
    picture: np.ndarray,
    shape: Sequence[int],
    target: Mapping[str, Any],
    class_names: Sequence[str] | None,
    legend: Legend,
) -> np.ndarray:
    canvas = picture.copy()
    height, width = canvas.shape[:2]
    labels = np.asarray(target["labels"]).reshape(-1).astype(np.int64)
    boxes = np.asarray(target["boxes"], dtype=np.float64).reshape(-1, 4)
    zoom = np.array([width / shape[1], height / shape[0]] * 2)
    colours = class_colours(int(labels.max(initial=0)) + 1)
    for box, label in zip(boxes * zoom, labels.tolist(), strict=True):
        red, green, blue = colours[max(0, label)].tolist()
        left, top, right, bottom = (int(side) for side in np.round(np.nan_to_num(box)).clip(-1, max(height, width)))
        cv2.rectangle(canvas, (left, top), (right, bottom), (red, green, blue), 2)
        _count(legend, name_of(label, class_names), (red, green, blue), 1)
    return canvas


def _count(legend: Legend, name: str, colour: Colour, count: int) -> None:
    legend[name, colour] = legend.get((name, colour), 0) + count
