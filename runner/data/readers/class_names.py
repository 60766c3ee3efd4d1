"""Names of classes: read from a file, and put in order."""

import os
import unicodedata
from collections.abc import Iterable, Sequence

from assay.callbacks.errors import UsageError

CLASSES = "classes.txt"
"""The file beside images that names their classes, one per line."""


def read_class_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the names in a text file, one per line; empty lines at its end do not count.

    Raises:
        UsageError: a name is missing or there twice, or the file is no text in UTF-8.
    """
    lines = read_text(path).rstrip().splitlines()
    # Systems write "é" as one character or as two.
    names = [unicodedata.normalize("NFC", line.strip()) for line in lines]
    for number, name in enumerate(names, 1):
        if not name:
            raise UsageError(f"{os.fspath(path)}, line {number}: the name of a class is missing.")
        if names.index(name) < number - 1:
            raise UsageError(f"{os.fspath(path)}, line {number}: {name!r} is in line {names.index(name) + 1} already.")
    if not names:
        raise UsageError(f"{os.fspath(path)} names no class.")
    return names


def in_order(names: Iterable[str]) -> list[str]:
    """Return names sorted as texts, or as numbers where all of them are."""
    names = list(names)
    are_numbers = all(name.isascii() and name.isdecimal() for name in names)
    return sorted(names, key=lambda name: (int(name) if are_numbers else 0, name))


def alike(names: Iterable[str]) -> list[str]:
    """Return a line for each name that differs from another one by upper and lower case or by spaces alone."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault("".join(name.casefold().split()), name), name) for name in names]
    return [
        f"classes {one!r} and {other!r} differ by case or spaces alone, and are two"
        for one, other in pairs
        if one != other
    ]


def match_names(file: str | os.PathLike[str], names: Sequence[str], found: Sequence[str]) -> dict[str, int]:
    """Return the class of each text that names one: by the name itself, else by its number from 0 or 1.

    Args:
        file: where the names are from.
        names: of the classes, in order.
        found: what the data calls its classes; those that are none are left out.

    Raises:
        UsageError: all of ``found`` are numbers, and one is beyond the names.
    """
    known = {name: number for number, name in enumerate(names)}
    by_name = {name: known[name] for name in found if name in known}
    if by_name or not found or not all(name.isascii() and name.isdecimal() for name in found):
        return by_name
    numbers = {name: int(name) for name in found}
    first = 0 if 0 in numbers.values() else 1
    if max(numbers.values()) - first >= len(names):
        raise UsageError(
            f"{os.fspath(file)} must name all classes: it has {len(names)} names, and the data has classes from "
            f"{min(numbers.values())} to {max(numbers.values())}."
        )
    return {name: number - first for name, number in numbers.items()}


def read_text(path: str | os.PathLike[str]) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with its mark.

    Raises:
        UsageError: it is neither, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UsageError(f"{os.fspath(path)} cannot be read: {error.strerror}.") from error
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{os.fspath(path)}, line {line}: no text in UTF-8; save it in that encoding.") from error
