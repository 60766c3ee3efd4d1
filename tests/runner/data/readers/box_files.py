"""Small data sets of boxes in the true form of each layout."""

import csv
import json
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np

SIZES = {"a.jpg": (64, 48), "b b.JPG": (40, 60), "ünï.png": (100, 80)}
"""Width and height of each image of ``BOXES``."""
CLASSES = ("cat", "dog & <co>")
BOXES = {
    "a.jpg": [(0, 0, 64, 48, 1), (10, 20, 12, 22, 2), (5, 6, 30, 40, 1)],
    "b b.JPG": [],
    "ünï.png": [(98, 78, 100, 80, 2)],
}
"""Left, top, right, bottom and label of the boxes of each image."""


def write_image(path, size=(64, 48)):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix.lower(), pixels)[1].tobytes())


def write_images(folder):
    for name, size in SIZES.items():
        write_image(folder / name, size)


def boxes_of(items):
    """Return left, top, right, bottom and label of the boxes of each item, by the name of its image."""
    return {
        Path(item["image"]).name: [
            (*box, label) for box, label in zip(item["bboxes"].tolist(), item["labels"].tolist(), strict=True)
        ]
        for item in items
    }


def coco(images, annotations, categories=None):
    """Return the content of a COCO file."""
    if categories is None:
        categories = [{"id": 3, "name": CLASSES[0]}, {"id": 90, "name": CLASSES[1]}]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_coco(path, boxes, sizes, images=""):
    numbers = {name: number for number, name in enumerate(boxes, 7)}
    listed = [
        {"id": numbers[name], "file_name": images + name, "width": sizes[name][0], "height": sizes[name][1]}
        for name in boxes
    ]
    flat = [(numbers[name], box) for name, of in boxes.items() for box in of]
    annotations = [
        {
            "id": number, "image_id": image, "category_id": (3, 90)[label - 1], "bbox": [x, y, x2 - x, y2 - y],
            "area": (x2 - x) * (y2 - y), "iscrowd": 0, "segmentation": [[x, y, x2, y, x2, y2]],
        }
        for number, (image, (x, y, x2, y2, label)) in enumerate(flat, 1)
    ]  # fmt: skip
    write_json(path, coco(listed, annotations[::-1]))  # in any order


def write_yolo(folder, boxes, sizes):
    folder.mkdir(parents=True, exist_ok=True)
    for name, of in boxes.items():
        width, height = sizes[name]
        lines = [
            f"{label - 1} {(x + x2) / 2 / width:.6f} {(y + y2) / 2 / height:.6f} {(x2 - x) / width:.6f} "
            f"{(y2 - y) / height:.6f}"
            for x, y, x2, y2, label in of
        ]
        (folder / name).with_suffix(".txt").write_text("\n".join(lines))


def voc_xml(name, size, objects):
    """Return the text of an annotation; ``objects`` are name and the text of each corner."""
    parts = [
        f"  <object>\n    <name>{escape(label)}</name>\n    <difficult>0</difficult>\n    <bndbox>\n"
        + "".join(f"      <{side}>{value}</{side}>\n" for side, value in zip(SIDES, corners, strict=True))
        + "    </bndbox>\n  </object>\n"
        for label, corners in objects
    ]
    size = f"  <size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>\n" if size else ""
    return f"<annotation>\n  <filename>{escape(name)}</filename>\n{size}{''.join(parts)}</annotation>\n"


SIDES = ("xmin", "ymin", "xmax", "ymax")


def write_voc(folder, boxes, sizes):
    folder.mkdir(parents=True, exist_ok=True)
    for name, of in boxes.items():
        # The pixels that a box holds, counted from 1.
        objects = [
            (CLASSES[int(label) - 1], (round(x) + 1, round(y) + 1, round(x2), round(y2))) for x, y, x2, y2, label in of
        ]
        (folder / name).with_suffix(".xml").write_text(voc_xml(name, sizes[name], objects))


def write_box_csv(path, boxes):
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "x_min", "y_min", "x_max", "y_max", "label"))
        for name, of in boxes.items():
            rows.writerows([name, *box[:4], CLASSES[box[4] - 1]] for box in of)
            if not of:
                rows.writerow([name, "", "", "", "", ""])
