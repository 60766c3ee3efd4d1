"""Read boxes from a CSV file, one row per box."""

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from assay.callbacks.errors import UsageError

from .box_records import ONE, BoxRecords, Sides
from .class_names import in_order, read_class_names
from .folder_tree import FolderTree, shown_paths, split_of
from .image_finder import ImageFinder
from .item_list import ItemList
from .tables import TABLE_SUFFIXES, Table, read_table, tables_in

# Names of columns, in lower case and letters and digits alone; the first that a table has counts.
_IMAGE = ("image", "imageid", "filename", "file", "imagename", "imagepath", "filepath", "path", "img", "externalid")
_LABEL = ("label", "class", "classname", "labelname", "category", "categoryname", "classid", "name")
_SPLIT = ("split", "set", "subset", "part")
_SIZE = (("imagewidth", "imageheight"), ("imgwidth", "imgheight"), ("width", "height"))
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"), ("x0", "y0", "x1", "y1"), ("x1", "y1", "x2", "y2"),
    ("left", "top", "right", "bottom"),
)  # fmt: skip
_EXTENTS = (
    ("x", "y", "w", "h"), ("x", "y", "width", "height"), ("xmin", "ymin", "w", "h"),
    ("xmin", "ymin", "width", "height"), ("left", "top", "width", "height"),
    ("bboxx", "bboxy", "bboxwidth", "bboxheight"), ("bbox",), ("box",),
)  # fmt: skip
_CENTRES = tuple(
    (*centre, *size)
    for centre in (("xcenter", "ycenter"), ("centerx", "centery"), ("cx", "cy"), ("xc", "yc"))
    for size in (("width", "height"), ("w", "h"))
)
_WITHOUT_HEADER = ("image", "x1", "y1", "x2", "y2", "label")
_WHEAT = {"image_id", "width", "height", "bbox", "source"}  # columns of Global Wheat Detection
_CLASS_FILES = ("classes.txt", "labels.txt")


def read_box_table(
    path: str | os.PathLike[str], *, class_name: str = "object", keep_unlisted: bool | None = None
) -> ItemList:
    """Read a CSV file with a row per box.

    ::

        image,x_min,y_min,x_max,y_max,label
        photos/a.jpg,12,30,96.5,80,cat
        photos/b.jpg,,,,,

    ``path`` is the file, or a folder with one such file. Columns are known by their usual names, in any order and
    whatever their case: ``image``, ``image_id``, ``filename`` or ``path``; ``xmin``, ``x1`` or ``left`` and so on; ``x,
    y, width, height`` from the left and top; ``x_center, y_center, width, height``; ``bbox`` with ``[left, top, width,
    height]``, as in Global Wheat Detection; ``label``, ``class`` or ``category``; and, where it has them, ``width`` and
    ``height`` of the image and ``split``. Without a header they are image, x1, y1, x2, y2, label. Sides are distances
    in pixels from the image's left and top edge; where most boxes have no number above 1, all are shares of its width
    and height, and ``problems`` says it. A row without numbers is an image without objects. Images are looked for
    beside the file, and by name below it.

    Classes are sorted, unless ``classes.txt`` beside the table names them in order. Further columns are kept for
    ``--group-by``, with what the first row of an image says.

    Args:
        path: the file, or its folder.
        class_name: of all boxes, where the table has no column of classes.
        keep_unlisted: whether images without a row, in the folders of those that have one, are images without objects.
            Otherwise they are left out. None: only with the columns of Global Wheat Detection, which is made so.

    Returns:
        Items with ``image``, ``bboxes``, ``labels`` and ``split``.

    Raises:
        UsageError: there is no such file, or several; it lacks a column; nothing is left to learn from.
    """
    table, columns = _open_table(Path(path))
    root, file = table.path.parent, table.path.name
    problems = list(table.problems)
    rows = _rows_by_image(table, columns, problems)
    are_shares = _are_shares(itertools.chain.from_iterable(rows.values()))
    if are_shares:
        problems.append(f"{file}: boxes have no number above 1: sides are read as shares of width and height")
    names, label_of = _class_labels(root, rows, class_name)
    records = BoxRecords(root, lambda image, entry: f"{file}, line {entry}", are_shares=are_shares)
    records.problems = problems
    finder = ImageFinder(root)
    kept: list[_Row] = []  # the first row of each image
    for image, of_image in rows.items():
        first = of_image[0]
        found, why_not = finder.find(image, first.split)
        if found is None:
            problems.append(f"{first.place}: {why_not}")
            continue
        number = records.add_image(found, first.place, split=first.split, stated=first.stated)
        if number is not None:
            kept.append(first)
            _add_boxes(records, number, of_image, label_of)
    _add_unlisted(records, file, keep_unlisted if keep_unlisted is not None else set(table.header) >= _WHEAT)
    others = [place for place in range(len(table.header)) if place not in columns.taken]
    blank = [""] * (len(records.paths) - len(kept))
    extra = {table.header[place]: [row.cells[place] for row in kept] + blank for place in others}
    return records.to_items("a CSV of boxes", names, extra)


def looks_like(path: Path) -> bool:
    """Whether a path is a CSV file with columns of boxes, or a folder that holds one."""
    return any(True for _ in _tables_with_boxes(path))


@dataclass(frozen=True)
class _Row:
    """A row of a table, and what is in it; ``sides`` is None where it has no box."""

    line: int
    place: str
    cells: Sequence[str]
    sides: Sides | None
    label: str
    split: str | None
    stated: tuple[int, int] | None


@dataclass(frozen=True)
class _Columns:
    """Where a table has what, by number of column."""

    image: int
    sides: tuple[int, ...]  # four, or one with all of them
    are_corners: bool
    are_centres: bool
    label: int | None
    split: int | None
    size: tuple[int, ...]

    @classmethod
    def find(cls, header: Sequence[str]) -> "_Columns | None":
        """Return the columns of a header; None where it has no image or no box."""
        known = {re.sub(r"[^a-z0-9]", "", name.lower()): place for place, name in reversed([*enumerate(header)])}

        def first(*names: str) -> int | None:
            return next((known[name] for name in names if name in known), None)

        forms = (*_CORNERS, *_CENTRES, *_EXTENTS)
        sides = next((form for form in forms if known.keys() >= set(form)), None)
        image = first(*_IMAGE)
        if image is None or sides is None:
            return None
        size = next((form for form in _SIZE if known.keys() >= set(form) and not set(form) & set(sides)), ())
        label = first(*(name for name in _LABEL if known.get(name) != image))
        places = (tuple(known[name] for name in names) for names in (sides, size))
        return cls(image, next(places), sides in _CORNERS, sides in _CENTRES, label, first(*_SPLIT), next(places))

    @property
    def taken(self) -> set[int | None]:
        """All of them."""
        return {self.image, *self.sides, self.label, self.split, *self.size}


def _open_table(path: Path) -> tuple[Table, _Columns]:
    if path.is_dir():
        found = [file for file, _ in _tables_with_boxes(path)]
        if not found:
            raise UsageError(f"{path} holds no CSV file with columns image, x_min, y_min, x_max, y_max.")
        if len(found) > 1:
            names = ", ".join(map(str, found))
            raise UsageError(f"{path} holds {len(found)} CSV files with boxes; give one: {names}.")
        path = found[0]
    table = read_table(path, _header_if_none(path))
    columns = _Columns.find(table.header)
    if columns is None:
        got = ", ".join(table.header)
        raise UsageError(f"{path} must have the columns image, x_min, y_min, x_max, y_max and label, got {got}.")
    return table, columns


def _tables_with_boxes(path: Path) -> Iterator[tuple[Path, _Columns]]:
    is_table = path.is_file() and path.suffix.lower() in TABLE_SUFFIXES and not path.name.startswith(".")
    for file in [path] if is_table else filter(Path.is_file, tables_in(path)):
        try:
            columns = _Columns.find(_header_if_none(file) or read_table(file, most=1).header)
        except UsageError:  # another kind of file
            continue
        if columns is not None:
            yield file, columns


def _header_if_none(path: Path) -> Sequence[str] | None:
    """Return names for the columns of a table that begins with a box."""
    numbered = [str(place) for place in range(len(_WITHOUT_HEADER))]
    try:
        table = read_table(path, numbered, most=1)
    except UsageError:
        return None
    is_data = table.lines[:1] == [1] and all(map(_is_number, table.rows[0][1:5]))
    return _WITHOUT_HEADER if is_data else None


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _rows_by_image(table: Table, columns: _Columns, problems: list[str]) -> dict[str, list[_Row]]:
    """Return the rows of each image, and add a line to the problems for each that is left out."""
    rows: dict[str, list[_Row]] = {}
    for number, cells in enumerate(table.rows):
        place, image, sides = table.where(number), cells[columns.image], _sides(cells, columns)
        label = cells[columns.label] if columns.label is not None else None
        if not image or isinstance(sides, str):
            problems.append(f"{place}: {sides if image else 'no image'}; left out")
        elif sides is not None and label == "":
            problems.append(f"{place}: a box without a class; left out")
        else:
            split = split_of(cells[columns.split]) if columns.split is not None else None
            stated = _stated_size(cells, columns)
            row = _Row(table.lines[number], place, cells, sides, label or "", split, stated)
            rows.setdefault(image, []).append(row)
    return rows


def _sides(cells: Sequence[str], columns: _Columns) -> Sides | str | None:
    """Return left, top, right and bottom of a row, None where it has no box, or what is wrong with it."""
    parts = [cells[place] for place in columns.sides]
    if not any(parts):
        return None
    try:
        values = json.loads(parts[0]) if len(parts) == 1 else [float(part) for part in parts]
        first, second, third, fourth = map(float, values)
    except (ValueError, TypeError):
        return f"a box must be four numbers, got {', '.join(parts)!r}"
    if columns.are_corners:
        return first, second, third, fourth
    left, top = (first - third / 2, second - fourth / 2) if columns.are_centres else (first, second)
    return left, top, left + third, top + fourth


def _stated_size(cells: Sequence[str], columns: _Columns) -> tuple[int, int] | None:
    try:
        width, height = (int(float(cells[place])) for place in columns.size)
    except (ValueError, OverflowError):  # no such columns, or no numbers
        return None
    return width, height


def _are_shares(rows: Iterable[_Row]) -> bool:
    # Not all: shares may be rounded up, and a box may reach beyond its image. In pixels, no box is so small.
    are_small = [max(map(abs, row.sides)) <= ONE for row in rows if row.sides is not None]
    return 2 * sum(are_small) > len(are_small)


def _class_labels(root: Path, rows: Mapping[str, Sequence[_Row]], class_name: str) -> tuple[list[str], dict[str, int]]:
    """Return the names of the classes in order, and the label of each."""
    file = next((root / name for name in _CLASS_FILES if (root / name).is_file()), None)
    found = {row.label for of in rows.values() for row in of if row.sides is not None}
    if found <= {""}:
        return [class_name], {"": 1}
    names = read_class_names(file) if file else in_order(found)
    label_of = {name: label for label, name in enumerate(names, 1)}
    # A table of numbers, with a file of their names.
    if file and not found & label_of.keys() and all(name.isdecimal() for name in found):
        label_of = {str(number): number + 1 for number in range(len(names))}
    return names, label_of


def _add_boxes(records: BoxRecords, image: int, rows: Sequence[_Row], label_of: Mapping[str, int]) -> None:
    first = rows[0]
    for row in rows:
        if row.sides is None:
            problem = "a row without a box, beside others of its image; left out" if len(rows) > 1 else ""
        elif row.label not in label_of:
            problem = f"class {row.label!r} is not in the file of the classes' names; left out"
        else:
            records.add_box(image, row.sides, label_of[row.label], row.line)
            differs = "split" if row.split != first.split else "size" if row.stated != first.stated else ""
            problem = f"the {differs} of the image is not that of line {first.line}, which counts" if differs else ""
        if problem:
            records.problems.append(f"{row.place}: {problem}")


def _add_unlisted(records: BoxRecords, file: str, keep: bool) -> None:
    """Count the images without a row in the folders of the others, and add them if they are to be kept."""
    folders, known = {os.path.dirname(path) for path in records.paths}, set(records.paths)
    tree = FolderTree(records.root)
    tree.claim([""])
    without = [path for path in tree.images_below("") if path not in known and os.path.dirname(path) in folders]
    if without:
        made = (
            "count as images without objects" if keep else "are left out: one without objects needs a row without a box"
        )
        records.problems.append(f"{len(without):,} images have no row, and {made}: {shown_paths(without)}")
    for image in without if keep else ():
        records.add_image(image, file)
