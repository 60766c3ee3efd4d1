"""Recognize the layout of a data set by a look at its path, and read it."""

import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from assay.callbacks.errors import UsageError, listing, unknown_name

from .item_list import ItemList
from .tables import tables_in

_SHOWN = 6  # names of what a folder holds, in a message


@dataclass(frozen=True)
class Layout:
    """A layout that data sets have.

    Attributes:
        name: what it is called in messages.
        module: the one beside this with its reader, and with ``looks_like(path) -> bool``.
        reader: the function that reads it.
    """

    name: str
    module: str
    reader: str

    def fits(self, path: Path) -> bool:
        """Whether a path looks like it."""
        return bool(self._find("looks_like")(path))

    def read(self, path: Path, **options: Any) -> ItemList:
        """Return the items at a path.

        Raises:
            UsageError: the reader has no such option.
        """
        reader = self._find(self.reader)
        if unknown := options.keys() - inspect.signature(reader).parameters.keys():
            raise UsageError(f"{path} is read as {self.name}, which has no use for {listing(unknown)}: leave it out.")
        items: ItemList = reader(path, **options)
        return items

    def _find(self, name: str) -> Any:
        # Imported when they are asked for: some need libraries that are slow to import.
        return getattr(import_module(f".{self.module}", __package__), name)


LAYOUTS: Mapping[str, Sequence[Layout]] = {
    "classify": (
        Layout("a table of labels (CSV)", "label_table", "read_label_table"),
        Layout("a folder per class", "class_folders", "read_class_folders"),
    ),
    "segment": (
        Layout("a table of images and masks (CSV)", "masks.table", "read_mask_table"),
        Layout("images/ with masks/", "masks.folders", "read_mask_folders"),
        Layout("COCO with outlines", "masks.coco", "read_coco_masks"),
    ),
    "detect": (
        Layout("COCO JSON", "coco", "read_coco"),
        Layout("YOLO", "yolo", "read_yolo"),
        Layout("Pascal VOC", "voc", "read_voc"),
        Layout("a table of boxes (CSV)", "box_table", "read_box_table"),
    ),
}
"""What is looked for, in this order, by what the data is for."""


def read_data(path: str | os.PathLike[str], kind: str, **options: Any) -> ItemList:
    """Return the items at a path, whatever its layout is.

    Args:
        path: a file or a folder.
        kind: what they are for: "classify", "segment" or "detect".
        options: arguments of the reader.

    Raises:
        UsageError: there is nothing, or it has no known layout; the message says what was looked for and found.
    """
    if kind not in LAYOUTS:
        raise unknown_name("kind", kind, LAYOUTS)
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path} is not there: give the folder or the file of your data set.")
    layouts = _fitting(path, kind)
    if not layouts:
        raise _nothing_fits(path, kind)
    items = layouts[0].read(path, **options)
    others = [f"{path}: looks like {one.name} too, and is read as {layouts[0].name}" for one in layouts[1:]]
    items.problems = (*items.problems, *others)
    return items


def _fitting(path: Path, kind: str) -> list[Layout]:
    return [layout for layout in LAYOUTS[kind] if layout.fits(path)]


def _nothing_fits(path: Path, kind: str) -> UsageError:
    looked_for = ", ".join(layout.name for layout in LAYOUTS[kind])
    hints = [f"assay train {other} reads {found[0].name}" for other in LAYOUTS if (found := _fitting(path, other))]
    hint = f"; {hints[0]}, which it looks like" if hints else ""
    if not hints and len(tables_in(path)) > 1:
        hint = "; of several tables, give the path of one"
    return UsageError(f"{path} has no layout for {kind}: looked for {looked_for}; found {_describe(path)}{hint}.")


def _describe(path: Path) -> str:
    """Return what there is at a path, in words."""
    if path.is_file():
        return f"a file of {path.stat().st_size:,} bytes"
    names = sorted(one.name + "/" * one.is_dir() for one in path.iterdir())
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "an empty folder"
