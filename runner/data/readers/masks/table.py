"""Read a table of images and masks."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay.callbacks.errors import UsageError, listing

from ..folder_tree import is_image_name, split_of
from ..image_finder import ImageFinder
from ..item_list import ItemList
from ..label_table import GROUP_COLUMNS, IMAGE_COLUMNS, SPLIT_COLUMNS
from ..tables import TABLE_SUFFIXES, Table, read_table, tables_in
from .mask_classes import MaskClasses
from .mask_items import make_items

MASK_COLUMNS = (
    "mask", "mask_path", "mask_file", "mask_name", "masks", "segmentation", "segmentation_path", "seg", "gt", "target",
    "target_path", "label", "label_path", "label_file", "labels", "annotation", "annotation_path",
)  # fmt: skip

_LOOKED_AT = 100  # rows by which a table is recognized


def read_mask_table(path: str | os.PathLike[str], *, classes: MaskClasses | None = None) -> ItemList:
    """Read pairs of images and masks from a table, CSV with commas, semicolons or tabs.

    ::

        image,mask,split
        photos/1.jpg,drawn/1.png,train

    Columns are found by customary names, such as ``image`` or ``file``, and ``mask``, ``label`` or ``gt``; a file
    without a header begins with a pair. ``split`` (train, valid, test) and ``group`` are taken over, other columns can
    be grouped by. Files are found relative to the table's folder, or by name in any folder below it. What the values of
    masks are is found as by ``read_mask_folders``.

    Args:
        path: the table, or a folder with one.
        classes: see ``read_mask_folders``.

    Returns:
        Items as those of ``read_mask_folders``.

    Raises:
        UsageError: there is no table, a column is not found, or no pair is there.
    """
    table = _read(_find_table(Path(path)))
    pairs = _Pairs(table, _Columns.find(table))
    for row in range(len(table.rows)):
        pairs.add(row)
    if not pairs.rows:
        raise UsageError(f"{table.path} names no pair that is there: {(pairs.problems or ['it has no rows'])[0]}.")
    return pairs.to_items(classes)


def looks_like(path: Path) -> bool:
    """Whether a path is a table of images and masks, or a folder with one."""
    try:
        table = _read(_find_table(path), most=_LOOKED_AT)
        columns = _Columns.find(table)
    except UsageError:
        return False
    cells = [cell for cell in table.column(columns.mask) if cell]
    return bool(cells) and sum(map(is_image_name, cells)) > len(cells) / 2


@dataclass(frozen=True)
class _Columns:
    """Which column is what."""

    image: str
    mask: str
    split: str | None
    group: str | None

    @classmethod
    def find(cls, table: Table) -> "_Columns":
        image = table.find(*IMAGE_COLUMNS)
        mask = table.find(*MASK_COLUMNS)
        if image is None or mask is None:
            lacks = "images" if image is None else "masks"
            raise UsageError(
                f"{table.path}: no column names {lacks}: looked for 'image', 'mask' and the like, found "
                f"{listing(table.header)}."
            )
        return cls(image, mask, table.find(*SPLIT_COLUMNS), table.find(*GROUP_COLUMNS))


@dataclass
class _Pairs:
    """The rows of a table whose files are there."""

    table: Table
    columns: _Columns
    rows: list[int] = field(default_factory=list)
    images: dict[str, int] = field(default_factory=dict)
    masks: list[str] = field(default_factory=list)
    splits: list[str | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.finder = ImageFinder(self.table.path.parent)
        self.problems = list(self.table.problems)
        self._cells = {name: self.table.column(name) for name in self.table.header}

    def add(self, row: int) -> None:
        """Add a row, or a line about what is wrong with it."""
        said = self._cells[self.columns.split][row] if self.columns.split else ""
        split = split_of(said)
        image, why = self.finder.find(self._cells[self.columns.image][row], split)
        mask, why_mask = self.finder.find(self._cells[self.columns.mask][row], split)
        if said and split is None:
            why = f"split {said!r} is none of train, valid, test"
        elif image is not None and mask is None:
            why = f"mask {why_mask}"
        elif image in self.images:
            why = f"{image} again, after {self.table.where(self.images[image])}"
        if why or image is None or mask is None:
            self.problems.append(f"{self.table.where(row)}: {why}; left out")
            return
        self.images[image] = row
        self.rows.append(row)
        self.masks.append(mask)
        self.splits.append(split)

    def to_items(self, classes: MaskClasses | None) -> ItemList:
        """Return the items."""
        columns: dict[str, list[Any]] = {"image": [*self.images], "sample_id": [*self.images], "target": self.masks}
        if any(self.splits):
            columns["split"] = self.splits
        if self.columns.group:
            columns["group"] = self._of(self.columns.group)
        used = (self.columns.image, self.columns.mask, self.columns.split, self.columns.group)
        return make_items(
            self.table.path.parent,
            columns,
            layout=f"{self.table.path.name} by column {self.columns.mask!r}",
            problems=self.problems,
            places=[self.table.where(row) for row in self.rows],
            extra_columns={name: self._of(name) for name in self.table.header if name not in used},
            unnamed=classes,
        )

    def _of(self, name: str) -> list[str]:
        return [self._cells[name][row] for row in self.rows]


def _read(file: Path, *, most: int | None = None) -> Table:
    first = read_table(file, most=0).header
    header = ["image", "mask"] if len(first) == 2 and all(map(is_image_name, first)) else None
    return read_table(file, header, most=most)


def _find_table(path: Path) -> Path:
    if not path.is_dir():
        if path.suffix.lower() not in TABLE_SUFFIXES:
            raise UsageError(f"{path} is no table: its name must end in .csv or .tsv.")
        return path
    files = tables_in(path)
    if len(files) != 1:
        found = listing(file.name for file in files)
        raise UsageError(f"{path} must hold one table with the suffix .csv or .tsv, got {found}: give its path.")
    return files[0]
