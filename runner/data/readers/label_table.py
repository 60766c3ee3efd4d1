"""Read a table of labels: a class per image, several labels in a cell, or one column per label."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.callbacks.errors import UsageError, listing

from .folder_tree import is_image_name, split_of
from .image_finder import ImageFinder
from .item_list import SPLITS, Column, ItemList
from .label_targets import LABEL_COLUMNS, Targets, is_flag, read_targets
from .tables import TABLE_SUFFIXES, Table, read_table, tables_in

IMAGE_COLUMNS = (
    "image", "image_path", "image_file", "image_name", "images", "img", "img_path", "img_name", "filename", "file_name",
    "filepath", "file_path", "file", "path", "photo", "picture", "image_id", "img_id", "name", "id",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "subset", "part", "partition", "set", "phase")
GROUP_COLUMNS = ("group", "group_id")

_LOOKED_AT = 100  # rows by which a table in a folder is recognized


def read_label_table(
    path: str | os.PathLike[str],
    *,
    image_column: str | None = None,
    label_columns: Sequence[str] = (),
    separator: str | None = None,
) -> ItemList:
    """Read images with their labels from a table, CSV with commas, semicolons or tabs.

    ::

        image,label             image,labels                  image,cat,dog,indoors
        photos/1.jpg,cat        photos/1.jpg,cat|indoors      photos/1.jpg,1,0,1
        photos/2.jpg,dog        photos/2.jpg,                 photos/2.jpg,0,0,0

    Columns are found by customary names, such as ``image``, ``file`` or ``path``, and ``label``, ``class`` or ``tags``;
    without one for labels, every column of 0 and 1 is one. A column of that kind alone is a binary target; several that
    hold one 1 in each row are classes. Labels of a cell are separated by ``|`` or ``;``, or by commas or spaces where
    the parts repeat more than the cells do. ``split`` (train, valid, test) and ``group`` are taken over; other columns
    can be grouped by. A file without a header begins with an image.

    Images are found relative to the table's folder, without suffix too, or by name in any folder below it.
    ``classes.txt`` beside the table sets the order of the classes, and the names of numbers.

    Args:
        path: the table, or a folder with one table, or with ``train.csv`` and ``valid.csv`` or the like.
        image_column: the column that names the images.
        label_columns: the column of labels, or one per label.
        separator: of several labels in a cell.

    Raises:
        UsageError: there is no table, a column is not found, or no image is there.
    """
    tables = [(split, read_table(file, _missing_header(file))) for split, file in _find_tables(Path(path))]
    first = tables[0][1]
    columns = _Columns.find(first, image_column, label_columns)
    problems = [problem for _, table in tables for problem in table.problems]
    taken: dict[str, _Record] = {}
    finder = ImageFinder(first.path.parent)
    for split, table in tables:
        if missing := [name for name in (columns.image, *columns.labels) if name not in table.header]:
            problems.append(f"{table.path.name}: left out, as it has no column {listing(missing)}")
            continue
        _find_images(table, columns, split, finder, problems, taken)
    if not taken:
        raise UsageError(f"{first.path} names no image that is there: {(problems or ['it has no rows'])[0]}.")
    records = list(taken.values())
    cells = {name: [record.cell(name) for record in records] for name in columns.labels}
    targets = read_targets(cells, first.path, separator, where=lambda place: records[place].where, problems=problems)
    by = f"column {columns.labels[0]!r}" if len(columns.labels) == 1 else "one column per label"
    return _to_items(records, columns, targets, f"{first.path.name} by {by}", problems)


def looks_like(path: Path) -> bool:
    """Whether a path is a table, or a folder with one that has columns of images and labels."""
    if path.is_file():
        return path.suffix.lower() in TABLE_SUFFIXES
    try:
        _, file = _find_tables(path)[0]
        _Columns.find(read_table(file, _missing_header(file), most=_LOOKED_AT), None, ())
    except UsageError:
        return False
    return True


@dataclass(slots=True)
class _Record:
    """A row whose image was found."""

    table: Table
    row: int
    image: str
    split: str | None

    def cell(self, name: str) -> str:
        """Return the text in a column; "" where the table has none of that name."""
        header = self.table.header
        return self.table.rows[self.row][header.index(name)] if name in header else ""

    @property
    def where(self) -> str:
        return self.table.where(self.row)


@dataclass(frozen=True)
class _Columns:
    """Which column is what; ``labels`` are several if there is one per label."""

    image: str
    labels: Sequence[str]
    split: str | None
    group: str | None
    others: Sequence[str]

    @classmethod
    def find(cls, table: Table, image: str | None, labels: Sequence[str]) -> "_Columns":
        for name in (*([image] if image else []), *labels):
            table.column(name)  # raises where there is none
        image = image or table.find(*IMAGE_COLUMNS) or _first_with(table, is_image_name)
        if image is None:
            raise UsageError(
                f"{table.path}: no column names images: looked for 'image', 'file', 'path' and the like, found "
                f"{listing(table.header)}."
            )
        split = next(
            (name for name in table.header if name.lower() in SPLIT_COLUMNS and _has_splits(table, name)), None
        )
        group = table.find(*GROUP_COLUMNS)
        rest = [name for name in table.header if name not in (image, split, group)]
        labels = list(labels) or _label_columns(table, rest)
        return cls(image, labels, split, group, [name for name in rest if name not in labels])


def _find_tables(path: Path) -> list[tuple[str | None, Path]]:
    if not path.is_dir():
        return [(None, path)]
    tables = tables_in(path)
    parts = {file: split_of(file.stem) for file in tables}
    if len(tables) == 1 or not tables:
        if not tables:
            raise UsageError(f"{path} holds no table: looked for a file with the suffix .csv or .tsv.")
        return [(None, tables[0])]
    if "train" in parts.values():
        return [(part, file) for part in SPLITS for file, of in parts.items() if of == part]
    by_name = [file for file in tables if file.stem.lower() in ("labels", "annotations", "data")]
    if len(by_name) != 1:
        raise UsageError(f"{path} holds several tables, {listing(file.name for file in tables)}: give the path of one.")
    return [(None, by_name[0])]


def _missing_header(path: Path) -> list[str] | None:
    """Return names of two columns for a table that begins with an image in place of a header."""
    first = read_table(path, most=0).header
    return ["image", "label"] if len(first) == 2 and is_image_name(first[0]) else None


def _first_with(table: Table, holds: Callable[[str], bool]) -> str | None:
    """Return the first column of which most cells hold something."""
    return next((name for name in table.header if _most(table.column(name), holds)), None)


def _most(cells: Sequence[str], holds: Callable[[str], bool]) -> bool:
    return sum(map(holds, cells)) > len(cells) / 2


def _has_splits(table: Table, name: str) -> bool:
    return _most(table.column(name), lambda cell: split_of(cell) is not None or not cell)


def _label_columns(table: Table, rest: Sequence[str]) -> list[str]:
    known = table.find(*LABEL_COLUMNS)
    if known is not None and known in rest:
        return [known]
    flags = [name for name in rest if _most([cell for cell in table.column(name) if cell] or ["-"], is_flag)]
    if flags or len(rest) == 1:
        return flags or list(rest)
    raise UsageError(
        f"{table.path}: no column holds labels: looked for 'label', 'class', 'tags' and the like, and for columns of 0 "
        f"and 1, found {listing(table.header)}."
    )


def _find_images(
    table: Table,
    columns: _Columns,
    split: str | None,
    finder: ImageFinder,
    problems: list[str],
    taken: dict[str, _Record],
) -> None:
    """Add the rows whose image is there to ``taken``, by image."""
    splits = table.column(columns.split) if columns.split in table.header and split is None else None
    for row, text in enumerate(table.column(columns.image)):
        part = split if splits is None else split_of(splits[row])
        if splits is not None and splits[row] and part is None:
            problems.append(f"{table.where(row)}: split {splits[row]!r} is none of train, valid, test; left out")
            continue
        image, why = finder.find(text, part)
        if image is None:
            problems.append(f"{table.where(row)}: {why}")
        elif image in taken:
            problems.append(f"{table.where(row)}: {image} again, after {taken[image].where}; left out")
        else:
            taken[image] = _Record(table, row, image, part)


def _to_items(
    records: Sequence[_Record], columns: _Columns, targets: Targets, layout: str, problems: list[str]
) -> ItemList:
    kept = [records[place] for place in targets.kept]
    images = [record.image for record in kept]
    parts: dict[str, Column] = {"image": images, "sample_id": images, "target": targets.values}
    if any(record.split for record in kept):
        parts["split"] = [record.split for record in kept]
    if columns.group is not None:
        parts["group"] = [record.cell(columns.group) for record in kept]
    others = {name: [record.cell(name) for record in kept] for name in columns.others}
    return ItemList(
        records[0].table.path.parent,
        parts,
        task=targets.task,
        layout=layout,
        class_names=targets.names,
        problems=problems,
        extra_columns=others,
    )
