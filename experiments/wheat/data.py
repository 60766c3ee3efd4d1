"""Reading Global Wheat Detection: a table of boxes, and images of which some have none."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import albumentations as A
import cv2

from assay.callbacks import UsageError
from assay.runner import ItemList, read_box_table

TABLE = "train.csv"
CLASS_NAMES = ("background", "head")
HELD_OUT_OF = 5


def read_items(folder: Path) -> ItemList:
    """Return the images in the order of their names, with ``source``; their ids are their names without suffix.

    ``source`` is empty where the table does not name the image, which has no boxes then.

    Raises:
        UsageError: the table is missing, or lacks a column; nothing is left to learn from.
    """
    if not (folder / TABLE).is_file():
        raise UsageError(f"{folder / TABLE} is not there: data_dir must hold {TABLE} and the folder of its images.")
    found = read_box_table(folder / TABLE, class_name=CLASS_NAMES[1], keep_unlisted=True)
    if "source" not in found.names:
        raise UsageError(f"{folder / TABLE} must have a column source.")
    paths = found.column("image")
    items = found.take(sorted(range(len(found)), key=paths.__getitem__))
    columns = {name: items.column(name) for name in ("image", "source", "bboxes", "labels")}
    columns["sample_id"] = [Path(path).stem for path in columns["image"]]
    return ItemList(
        items.root, columns, task=items.task, layout=items.layout, class_names=CLASS_NAMES, problems=items.problems
    )


def split(items: ItemList, valid_sources: Sequence[str]) -> tuple[ItemList, ItemList]:
    """Return the items to train on and those to validate on, the same each time.

    Args:
        items: of ``read_items``.
        valid_sources: sources that are held out; where none is named, one image of five is, by a checksum of its id.

    Raises:
        UsageError: there is no such source, or a part is empty.
    """
    sources, ids = list(items.column("source")), items.column("sample_id")
    known = sorted({*sources} - {""})
    for source in valid_sources:
        if source not in known:
            raise UsageError(f"valid_sources must name sources of the data, {', '.join(known)}, got {source!r}.")
    parts: tuple[list[int], list[int]] = ([], [])
    for number, (source, name) in enumerate(zip(sources, ids, strict=True)):
        by_id = zlib.crc32(name.encode()) % HELD_OUT_OF == 0
        parts[source in valid_sources if valid_sources else by_id].append(number)
    if not all(parts):
        raise UsageError(
            f"{len(items)} images give {len(parts[0])} to train on, {len(parts[1])} to validate on: add some."
        )
    return items.take(parts[0]), items.take(parts[1])


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
