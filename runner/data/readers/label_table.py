"""Read a table of labels: a class per image, several labels in a cell, or one column per label."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.callbacks.errors import UsageError, listing

from .folder_tree import is_image_name, split_of
from .image_finder import ImageFinder
from .item_list import SPLITS, Column, ItemList
from .label_targets import FLAGS, LABEL_COLUMNS, Targets, is_flag, read_targets
from .tables import TABLE_SUFFIXES, Table, plain_name, read_table, tables_in

IMAGE_COLUMNS = (
    "image", "image_path", "image_file", "image_name", "images", "img", "img_path", "img_name", "filename", "file_name",
    "filepath", "file_path", "file", "path", "photo", "picture", "image_id", "img_id", "name", "id",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "subset", "part", "partition", "set", "phase")
VALID_COLUMNS = ("is_valid", "is_val", "is_validation")
GROUP_COLUMNS = ("group", "group_id")

_LOOKED_AT = 100  # rows by which a table in a folder is recognized
_TRIED = 20  # rows whose cells are looked for as images
_SHOWN = 3  # columns in the first line


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
    the parts repeat more than the cells do; a cell may be a list as Python and JSON write it. ``split`` (train, valid,
    test) or ``is_valid`` (yes, no) and ``group`` are taken over; other columns can be grouped by. A file without a
    header begins with a row that names an image.

    Images are found relative to the table's folder, without suffix too, or by name in any folder below it.
    ``classes.txt`` beside the table sets the order of the classes, and the names of numbers.

    Args:
        path: the table, or a folder with one table, or with ``train.csv`` and ``valid.csv`` or the like, or with a
            table in ``train`` and ``valid`` each.
        image_column: the column that names the images.
        label_columns: the column of labels, or one per label.
        separator: of several labels in a cell.

    Raises:
        UsageError: there is no table, a column is not found, or no image is there.
    """
    tables = [(split, read_table(file, missing_header(file))) for split, file in _find_tables(Path(path))]
    first, root = tables[0][1], Path(path) if os.path.isdir(path) else Path(path).parent
    finder = ImageFinder(root)
    columns = _Columns.find(first, image_column, label_columns, finder)
    problems = [problem for _, table in tables for problem in table.problems]
    taken: dict[str, _Record] = {}
    for split, table in tables:
        if missing := [name for name in (columns.image, *columns.labels) if name not in table.header]:
            problems.append(f"{table.name}: left out, as it has no column {listing(missing)}")
            continue
        _find_images(table, columns, split, finder, problems, taken)
    if not taken:
        raise UsageError(f"{first.path} names no image that is there: {(problems or ['it has no rows'])[0]}.")
    records = list(taken.values())
    cells = {name: [record.cell(name) for record in records] for name in columns.labels}
    targets = read_targets(cells, first.path, separator, where=lambda place: records[place].where, problems=problems)
    return _to_items(root, records, columns, targets, f"{first.name} by {_described(columns.labels)}", problems)


def looks_like(path: Path) -> bool:
    """Whether a path is a table, or a folder with one that has columns of images and labels."""
    if path.is_file():
        return path.suffix.lower() in TABLE_SUFFIXES
    try:
        _, file = _find_tables(path)[0]
        _Columns.find(read_table(file, missing_header(file), most=_LOOKED_AT), None, (), ImageFinder(path))
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
    def find(cls, table: Table, image: str | None, labels: Sequence[str], finder: ImageFinder) -> "_Columns":
        for name in (*([image] if image else []), *labels):
            table.column(name)  # raises where there is none
        image = image or table.find(*IMAGE_COLUMNS) or _first_with(table, is_image_name)
        image = image or _first_with(table, lambda cell: finder.find(cell)[0] is not None, _TRIED)
        if image is None:
            raise UsageError(
                f"{table.path}: no column names images: looked for 'image', 'file', 'path' and the like, found "
                f"{listing(table.header)}; name it by image_column."
            )
        split = next((name for name in table.header if _is_split(table, name)), None)
        group = table.find(*GROUP_COLUMNS)
        rest = [name for name in table.header if name not in (image, split, group)]
        labels = list(labels) or _label_columns(table, rest)
        return cls(image, labels, split, group, [name for name in rest if name not in labels])


def _find_tables(path: Path) -> list[tuple[str | None, Path]]:
    if not path.is_dir():
        return [(None, path)]
    tables = tables_in(path)
    if len(tables) == 1:
        return [(None, tables[0])]
    if parts := _by_part({file: split_of(file.stem) for file in tables}):
        return parts
    by_name = [file for file in tables if file.stem.lower() in ("labels", "annotations", "data")]
    if len(by_name) == 1:
        return [(None, by_name[0])]
    folders = [name for name in sorted(os.listdir(path)) if split_of(name)]
    inner = {file: split_of(name) for name in folders for file in tables_in(path / name)}
    if parts := _by_part({file: _part_within(file.stem) for file in tables} if tables else inner):
        return parts
    if not tables:
        raise UsageError(f"{path} holds no table: looked for a file with the suffix .csv or .tsv.")
    raise UsageError(f"{path} holds several tables, {listing(file.name for file in tables)}: give the path of one.")


def _by_part(part_of: Mapping[Path, str | None]) -> list[tuple[str | None, Path]]:
    """Return the tables of parts, where each part has one and there is one for training; else none."""
    parts = [part for part in part_of.values() if part]
    if "train" not in parts or len(set(parts)) < len(parts):
        return []
    return [(part, file) for part in SPLITS for file, of in part_of.items() if of == part]


def _part_within(stem: str) -> str | None:
    """Return the part of a split that one word of a name stands for, as in "train_labels"."""
    found = {split_of(word) for word in re.split(r"[\W_]+", stem)} - {None}
    return found.pop() if len(found) == 1 else None


def missing_header(path: Path, is_image: Callable[[str], bool] = is_image_name) -> list[str] | None:
    """Return names of the columns for a table that begins with an image in place of a header; else None.

    Raises:
        UsageError: it has more columns than can be told apart.
    """
    first = read_table(path, most=0).header
    if not any(map(is_image, first)):
        return None
    names = ["image" if is_image(cell) else "split" if split_of(cell) else "label" for cell in first]
    if len(set(names)) < len(names) or "label" not in names:
        raise UsageError(f"{path}, line 1: it names an image: put a line with the names of the columns above it.")
    return names


def _described(labels: Sequence[str]) -> str:
    if len(labels) == 1:
        return f"column {labels[0]!r}"
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return f"one column per label, {', '.join(map(repr, labels[:_SHOWN]))}{more}"


def _first_with(table: Table, holds: Callable[[str], bool], most: int | None = None) -> str | None:
    """Return the first column of which most cells hold something, of all rows or the first ones."""
    return next((name for name in table.header if _most(table.column(name)[:most], holds)), None)


def _most(cells: Sequence[str], holds: Callable[[str], bool]) -> bool:
    return sum(map(holds, cells)) > len(cells) / 2


def _is_split(table: Table, name: str) -> bool:
    if plain_name(name) in VALID_COLUMNS:
        return _most(table.column(name), is_flag)
    known = plain_name(name) in SPLIT_COLUMNS
    return known and _most(table.column(name), lambda cell: split_of(cell) is not None or not cell)


def _part_of(cell: str, column: str) -> str | None:
    if plain_name(column) in VALID_COLUMNS:
        return {1: "valid", 0: "train"}.get(FLAGS.get(cell.lower(), -1))
    return split_of(cell)


def _label_columns(table: Table, rest: Sequence[str]) -> list[str]:
    known = table.find(*LABEL_COLUMNS)
    if known is not None and known in rest:
        return [known]
    flags = [name for name in rest if _most([cell for cell in table.column(name) if cell] or ["-"], is_flag)]
    if flags or len(rest) == 1:
        return flags or list(rest)
    raise UsageError(
        f"{table.path}: no column holds labels: looked for 'label', 'class', 'tags' and the like, and for columns of 0 "
        f"and 1, found {listing(table.header)}; name them by label_columns."
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
        part = split if splits is None else _part_of(splits[row], columns.split or "")
        if splits is not None and splits[row] and part is None:
            problems.append(f"{table.where(row)}: {columns.split} {splits[row]!r} is no part of a split; left out")
            continue
        image, why = finder.find(text, part)
        if image is None:
            problems.append(f"{table.where(row)}: {why}")
        elif image in taken:
            problems.append(f"{table.where(row)}: {image} again, after {taken[image].where}; left out")
        else:
            taken[image] = _Record(table, row, image, part)


def _to_items(
    root: Path, records: Sequence[_Record], columns: _Columns, targets: Targets, layout: str, problems: list[str]
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
        root,
        parts,
        task=targets.task,
        layout=layout,
        class_names=targets.names,
        problems=problems,
        extra_columns=others,
    )
