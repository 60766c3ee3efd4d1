"""Pictures of ellipses, rectangles and triangles with boxes, and boxes among them that are planted wrong."""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from assay.callbacks.measures.box_matching import box_iou

SIDE = 96
COLOURS = {1: (215, 60, 50), 2: (60, 190, 70), 3: (60, 80, 215)}
NAMES = ("background", "ellipse", "rectangle", "triangle")
_LEAST_VISIBLE = 0.4  # of an object's pixels, from which on it has a box

Boxes = dict[str, list[list[float]]]  # by picture: left, top, right, bottom and label of each


@dataclass(frozen=True)
class Planted:
    """A box that is wrong.

    Attributes:
        kind: ``missing_box``, ``false_box`` or ``swapped_box``.
        picture: its name.
        box: left, top, right, bottom in pixels.
    """

    kind: str
    picture: str
    box: tuple[float, ...]


def make_pictures(count: int, seed: int) -> tuple[dict[str, np.ndarray], Boxes]:
    """Return pictures [SIDE, SIDE, 3], uint8, RGB, by name, and their boxes: objects overlap, among lines and noise."""
    draw = np.random.default_rng((seed, 7))
    pictures, boxes = {}, {}
    for number in range(count):
        name = f"{number:03}.png"
        pictures[name], boxes[name] = _picture(draw)
    return pictures, boxes


def _picture(draw: np.random.Generator) -> tuple[np.ndarray, list[list[float]]]:
    coarse = draw.normal(0, 18, (8, 8, 3)) + draw.uniform(70, 150, 3)
    image = cv2.resize(coarse.astype(np.float32), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    for _ in range(int(draw.integers(6, 16))):
        start = draw.uniform(0, SIDE, 2)
        ends = np.rint([start, start + draw.normal(0, 30, 2)]).astype(int).tolist()
        colour = (draw.uniform(60, 180) + draw.normal(0, 25, 3)).tolist()
        cv2.line(image, *ends, colour, int(draw.integers(1, 4)), cv2.LINE_AA)
    owner, areas, labels = np.zeros((SIDE, SIDE), np.int64), [], []
    for number in range(1, int(draw.integers(2, 7)) + 1):
        label = int(draw.integers(1, 4))
        inside = _shape(label, draw) > 0
        colour = 0.65 * np.array(COLOURS[label]) + 0.35 * draw.uniform(30, 225, 3)
        image[inside] = colour + draw.normal(0, 6, (int(inside.sum()), 3))
        owner[inside] = number
        areas.append(int(inside.sum()))
        labels.append(label)
    seen = cv2.GaussianBlur(image, (0, 0), 0.6) + draw.normal(0, 5, image.shape)
    boxes = [[*_extent(owner == number), float(label)] for number, label in enumerate(labels, start=1)
             if (owner == number).sum() >= _LEAST_VISIBLE * areas[number - 1] > 0]  # fmt: skip
    return np.rint(seen).clip(0, 255).astype(np.uint8), boxes


def _shape(label: int, draw: np.random.Generator) -> np.ndarray:
    """Return a mask [SIDE, SIDE] of an object of 12 to 34 pixels."""
    size, ratio = float(np.exp(draw.uniform(np.log(12), np.log(34)))), float(draw.uniform(0.75, 1.33)) ** 0.5
    half = np.array([size * ratio, size / ratio]) / 2
    middle = draw.uniform(size / 2, SIDE - size / 2, 2)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if label == 1:
        cv2.ellipse(mask, (tuple(middle.tolist()), tuple((2 * half).tolist()), 0.0), 1, -1)
        return mask
    corners = [(-1, -1), (1, -1), (1, 1), (-1, 1)] if label == 2 else [(-1, 1), (1, 1), (0, -1)]
    cv2.fillPoly(mask, [np.rint(middle + half * corners).astype(np.int32)], 1)
    return mask


def _extent(inside: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(inside)
    return [float(value) for value in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def plant_wrong(boxes: Boxes, share: float, seed: int) -> tuple[Boxes, list[Planted]]:
    """Return boxes of which a share is missing and a share of another class, and with as many that show nothing."""
    draw = np.random.default_rng((seed, 11))
    places = [(name, at) for name in boxes for at in range(len(boxes[name]))]
    count = round(share * len(places))
    chosen = [places[at] for at in draw.permutation(len(places))[: 2 * count]]
    gone, swapped = chosen[:count], chosen[count:]
    wrong = {name: [list(box) for box in of] for name, of in boxes.items()}
    planted = [Planted("missing_box", name, tuple(boxes[name][at][:4])) for name, at in gone]
    for name, at in swapped:
        box = wrong[name][at]
        box[4] = 1 + (box[4] - 1 + int(draw.integers(1, 3))) % 3
        planted.append(Planted("swapped_box", name, tuple(box[:4])))
    for name, at in sorted(gone, reverse=True):
        del wrong[name][at]
    names = list(boxes)
    while sum(of.kind == "false_box" for of in planted) < count:
        name, (of, at) = names[int(draw.integers(len(names)))], places[int(draw.integers(len(places)))]
        size = np.subtract(boxes[of][at][2:4], boxes[of][at][:2])
        corner = np.floor(draw.uniform(0, SIDE - size))
        box = [*corner.tolist(), *(corner + size).tolist()]
        if not len(boxes[name]) or box_iou(np.array([box]), np.array(boxes[name])[:, :4]).max() < 0.1:
            wrong[name].append([*box, float(draw.integers(1, 4))])
            planted.append(Planted("false_box", name, tuple(box)))
    return wrong, planted


def write_coco(folder: Path, pictures: dict[str, np.ndarray], boxes: Boxes) -> None:
    """Write pictures and boxes as the experiment ``detect`` reads them."""
    categories = [{"id": number, "name": NAMES[number]} for number in COLOURS]
    images = [{"id": at, "file_name": name, "width": SIDE, "height": SIDE} for at, name in enumerate(pictures)]
    rows = [(image["id"], box) for image in images for box in boxes[str(image["file_name"])]]
    annotations = [
        {"id": at, "image_id": of, "bbox": [left, top, right - left, bottom - top], "category_id": int(label),
         "area": (right - left) * (bottom - top), "iscrowd": 0}
        for at, (of, (left, top, right, bottom, label)) in enumerate(rows, start=1)
    ]  # fmt: skip
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / name), picture[..., ::-1])
    (folder / "boxes.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
