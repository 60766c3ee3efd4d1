"""Reading Global Wheat Detection: a table of boxes, and images of which some have none."""

import ast
import csv
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
from torch.utils.data import Dataset

from assay.callbacks import UsageError
from assay.runner import BadImageError, images_in, read_image

TABLE, IMAGES = "train.csv", "train"
COLUMNS = ("image_id", "width", "height", "bbox", "source")
HEAD = 1  # torchvision's detectors keep 0 for the background
CLASS_NAMES = ("background", "head")
HELD_OUT_OF = 5

Box = tuple[float, float, float, float]
Item = dict[str, Any]


@dataclass
class Rows:
    """What the table says of an image; ``size`` is width and height in pixels, ``boxes`` left, top, right, bottom."""

    size: tuple[int, int]
    source: str
    first_line: int
    boxes: dict[Box, int] = field(default_factory=dict)  # and the line of each


def read_table(path: Path) -> dict[str, Rows]:
    """Return the rows of ``train.csv`` by image.

    A row without a box says that its image has none; as published, such images have no row.

    Raises:
        UsageError: the file is missing, or lacks a column; a row is malformed, its box is degenerate or not in the
            image, or it contradicts or repeats another. The row is named by its line in the file.
    """
    if not path.is_file():
        raise UsageError(f"{path} is not there: data_dir must hold {TABLE} and the folder {IMAGES} of the competition.")
    found: dict[str, Rows] = {}
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"{path} must have the columns {', '.join(COLUMNS)}; it lacks {', '.join(missing)}.")
        for row in reader:
            _add_row(found, row, reader.line_num, f"{path}, line {reader.line_num}")
    return found


def _add_row(found: dict[str, Rows], row: Mapping[str, str | None], line: int, place: str) -> None:
    image_id, source = row["image_id"] or "", row["source"] or ""
    size = _size(row["width"], row["height"], place)
    box = _box(row["bbox"] or "", size, place)
    if not image_id:
        raise UsageError(f"{place}: image_id is empty.")
    rows = found.setdefault(image_id, Rows(size, source, line))
    if (rows.size, rows.source) != (size, source):
        raise UsageError(f"{place}: width, height or source of {image_id!r} is not that of line {rows.first_line}.")
    if line != rows.first_line and (box is None or not rows.boxes):
        raise UsageError(f"{place}: {image_id!r} has a row without a box, and another in line {rows.first_line}.")
    if box in rows.boxes:
        raise UsageError(f"{place}: this box of {image_id!r} is in line {rows.boxes[box]} already.")
    if box is not None:
        rows.boxes[box] = line


def _size(width: str | None, height: str | None, place: str) -> tuple[int, int]:
    if not ((width or "").isdecimal() and (height or "").isdecimal() and int(width or 0) and int(height or 0)):
        raise UsageError(f"{place}: width and height must be numbers of pixels, got {width!r} and {height!r}.")
    return int(width or 0), int(height or 0)


def _box(text: str, size: tuple[int, int], place: str) -> Box | None:
    """Return left, top, right and bottom of ``[x, y, width, height]``, None for an empty text."""
    if not text.strip():
        return None
    try:
        values = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        values = None
    if not isinstance(values, list) or len(values) != 4 or not all(_is_number(value) for value in values):
        raise UsageError(f"{place}: bbox must read '[x, y, width, height]', got {text!r}.")
    left, top, width, height = map(float, values)
    if width <= 0 or height <= 0:
        raise UsageError(f"{place}: the box {text} is degenerate: its width and height must be greater than 0.")
    if left < 0 or top < 0 or left + width > size[0] or top + height > size[1]:
        raise UsageError(f"{place}: the box {text} is not within its image of {size[0]} x {size[1]} pixels.")
    return left, top, left + width, top + height


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def read_items(folder: Path) -> list[Item]:
    """Return the images by id, with ``path``, ``sample_id``, ``source``, ``size``, ``bboxes`` and ``labels``.

    ``bboxes`` is [M, 4], float32: left, top, right, bottom in pixels. ``size`` is width and height as the table says;
    it is None, and ``source`` is empty, where the table does not name the image.

    Raises:
        UsageError: see ``read_table``; a row names an image that is not there; there is no image at all, or one of
            another kind.
    """
    table = read_table(folder / TABLE)
    paths = {path.stem: path for path in images_in(folder / IMAGES, ".jpg")}
    for image_id, rows in table.items():
        if image_id not in paths:
            missing = folder / IMAGES / f"{image_id}.jpg"
            raise UsageError(f"{missing} is not there, which line {rows.first_line} of {folder / TABLE} names.")
    if not paths:
        raise UsageError(f"{folder / IMAGES} holds no .jpg file: it must hold the images of the competition.")
    return [_item(image_id, path, table.get(image_id)) for image_id, path in paths.items()]


def _item(image_id: str, path: Path, rows: Rows | None) -> Item:
    boxes = np.array(list(rows.boxes) if rows else [], dtype=np.float32).reshape(-1, 4)
    return {
        "path": path, "sample_id": image_id, "source": rows.source if rows else "", "size": rows.size if rows else None,
        "bboxes": boxes, "labels": np.full(len(boxes), HEAD),
    }  # fmt: skip


def split(items: Sequence[Item], valid_sources: Sequence[str]) -> tuple[list[Item], list[Item]]:
    """Return the items to train on and those to validate on, the same each time.

    Args:
        items: of ``read_items``.
        valid_sources: sources that are held out; where none is named, one image of five is, by a checksum of its id.

    Raises:
        UsageError: there is no such source, or a part is empty.
    """
    known = sorted({item["source"] for item in items} - {""})
    for source in valid_sources:
        if source not in known:
            raise UsageError(f"valid_sources must name sources of the data, {', '.join(known)}, got {source!r}.")
    parts: tuple[list[Item], list[Item]] = ([], [])
    for item in items:
        by_id = zlib.crc32(item["sample_id"].encode()) % HELD_OUT_OF == 0
        parts[item["source"] in valid_sources if valid_sources else by_id].append(item)
    if not all(parts):
        raise UsageError(
            f"{len(items)} images give {len(parts[0])} to train on, {len(parts[1])} to validate on: add some."
        )
    return parts


class WheatImages(Dataset[Item]):
    """Gives the items with their image, [H, W, 3] uint8.

    Raises:
        BadImageError: when an item is asked for, its image cannot be read, or has not the size that the table says.
    """

    def __init__(self, items: Sequence[Item]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        item = dict(self.items[index])
        path, size = item.pop("path"), item.pop("size")
        image = read_image(path)
        height, width = image.shape[:2]
        if size not in (None, (width, height)):
            said = f"{TABLE} says {size[0]} x {size[1]}"
            raise BadImageError(f"image {str(path)!r} has {width} x {height} pixels, and {said}")
        return {"image": image, **item}


def to_tensor(transforms: Sequence[Any], size: int) -> A.Compose:
    """Return what makes images of any size tensors [3, size, size] from 0 to 1, with boxes; a rest is black.

    Boxes of which less than 30% is left are dropped.
    """
    pad = A.PadIfNeeded(size, size, position="top_left", border_mode=cv2.BORDER_CONSTANT, fill=0)
    boxes = A.BboxParams("pascal_voc", label_fields=["labels"], min_visibility=0.3, min_width=1, min_height=1)
    return A.Compose([*scale_to_tensor(size)[:1], pad, *transforms, *scale_to_tensor(size)[1:]], bbox_params=boxes)


def scale_to_tensor(size: int) -> list[Any]:
    """Return the transforms that make an image a tensor from 0 to 1 whose longer side is ``size``."""
    return [A.LongestMaxSize(size, interpolation=cv2.INTER_AREA), A.ToFloat(255), A.ToTensorV2()]
