"""CSV files that say which image belongs to which part of a split."""

import csv
import io
from collections.abc import Mapping
from os import PathLike
from pathlib import Path

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import SAMPLE_ID_KEY

from ..readers.item_list import ItemList

_WORDS = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
_COLUMNS = ("image", "split")


def write_split(parts: Mapping[str, ItemList]) -> str:
    """Return a split as CSV text, ``image,split``, sorted by image."""
    rows = sorted((str(one), name) for name, items in parts.items() for one in items.column(SAMPLE_ID_KEY))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    return text.getvalue()


def assign_from_file(items: ItemList, path: str | PathLike[str]) -> list[str | None]:
    """Return the part of each item that a CSV file names, ``train``, ``valid`` or ``test``; None where it names none.

    Args:
        items: the data set; their ids stand under ``image`` in the file.
        path: of a file as ``write_split`` makes it; ``val`` and ``validation`` mean ``valid``.

    Raises:
        UsageError: it cannot be read, names an image twice, or one that the data set does not hold.
    """
    named = read_split(path)
    ids = list(items.column(SAMPLE_ID_KEY))
    if missing := sorted(named.keys() - set(ids)):
        raise UsageError(
            f"{path} names {len(missing)} of {len(named)} images that the data set in {items.root} does not hold, "
            f"the first is {missing[0]!r}."
        )
    return [named.get(one) for one in ids]


def read_split(path: str | PathLike[str]) -> dict[str, str]:
    """Return the part of each image of a CSV file.

    Raises:
        UsageError: it cannot be read, or is no such file.
    """
    named: dict[str, str] = {}
    try:
        with Path(path).open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            rows = csv.DictReader(file)
            if missing := set(_COLUMNS) - set(rows.fieldnames or ()):
                raise UsageError(f"{path} must have the columns image and split; it lacks {listing(missing)}.")
            for row in rows:
                word = (row["split"] or "").strip().lower()
                if word not in _WORDS:
                    raise UsageError(f"{path}, line {rows.line_num}: split must be train, valid or test, got {word!r}.")
                if row["image"] in named:
                    raise UsageError(f"{path}, line {rows.line_num}: {row['image']!r} is there twice.")
                named[row["image"]] = _WORDS[word]
    except (OSError, csv.Error) as error:
        raise UsageError(f"the split {path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return named
