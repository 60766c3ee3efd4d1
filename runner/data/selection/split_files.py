"""CSV files that say which image belongs to which part of a split."""

import csv
import io
from collections.abc import Mapping
from os import PathLike

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import SAMPLE_ID_KEY

from ..readers.folder_tree import split_of
from ..readers.item_list import ItemList
from ..readers.tables import read_table

_COLUMNS = ("image", "split")


def write_split(parts: Mapping[str, ItemList]) -> str:
    """Return a split as CSV text, ``image,split``, sorted by image."""
    rows = sorted((_written(one), name) for name, items in parts.items() for one in items.column(SAMPLE_ID_KEY))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    return text.getvalue()


def assign_from_file(items: ItemList, path: str | PathLike[str]) -> list[str | None]:
    """Return the part of each item that a CSV file names, ``train``, ``valid`` or ``test``; None where it names none.

    Args:
        items: the data set; their ids stand under ``image`` in the file.
        path: of a file as ``write_split`` makes it; the names of folders are understood, such as ``val``.

    Raises:
        UsageError: it cannot be read, names an image twice, or one that the data set does not hold.
    """
    named = _read_split(path)
    ids = [_written(one) for one in items.column(SAMPLE_ID_KEY)]
    if missing := sorted(named.keys() - set(ids)):
        raise UsageError(
            f"{path} names {len(missing)} of {len(named)} images that the data set in {items.root} does not hold: "
            f"{missing[0]!r} first; images of the data set are called like {min(ids, default='')!r}."
        )
    return [named.get(one) for one in ids]


def _read_split(path: str | PathLike[str]) -> dict[str, str]:
    table = read_table(path)
    columns = [table.find(name) for name in _COLUMNS]
    if None in columns:
        raise UsageError(f"{path} must have the columns image and split; it has {listing(table.header)}.")
    if table.problems:
        raise UsageError(f"{table.problems[0]}: it must have as many cells as the first line.")
    named: dict[str, str] = {}
    for row, (image, word) in enumerate(zip(*map(table.column, filter(None, columns)), strict=True)):
        if (part := split_of(word)) is None:
            raise UsageError(f"{table.where(row)}: split must be train, valid or test, got {word!r}.")
        if image in named:
            raise UsageError(f"{table.where(row)}: {image!r} is there twice.")
        named[image] = part
    return named


def _written(sample_id: object) -> str:
    """Return how an image stands in a file: what of its name is no text is escaped."""
    return str(sample_id).encode(errors="surrogateescape").decode(errors="backslashreplace").strip()
