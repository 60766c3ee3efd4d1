"""Where the entries of a JSON file's lists stand: their lines, looked for when the first one is asked for."""

import json
import re
from array import array
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from .class_names import read_text

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class JsonPlaces:
    """The places of the entries in a JSON file whose root is an object with lists of objects.

    The file is gone through a second time to find them, as ``json`` does not tell, but only where there is a line to
    write about one.

    Args:
        path: the file.
        shown: what it is called in a line.
        content: what it holds.
    """

    def __init__(self, path: str, shown: str, content: Mapping[str, Any]):
        self.path, self.shown, self.content = path, shown, content

    def of(self, key: str, number: int) -> "JsonPlace":
        """Return the place of an entry, from 1 on, in the list with a key; as text, its line and its id."""
        return JsonPlace(self, key, number)

    def line(self, key: str, number: int) -> int:
        """Return the line in which an entry begins."""
        return self._lines[key][number - 1] if self._lines else 1

    @cached_property
    def _lines(self) -> dict[str, "array[int]"]:
        """The lines of all entries by key; nothing where the file has one line."""
        text = read_text(self.path).rstrip()
        return _lines_of_entries(text) if "\n" in text else {}


class JsonPlace(NamedTuple):
    """The place of an entry; its text is found when it is needed."""

    places: JsonPlaces
    key: str
    number: int

    def __str__(self) -> str:
        places, key, number = self
        found = places.content[key][number - 1].get("id")
        name = f"{key.removesuffix('s')} id {found!r}" if found is not None else f"entry {number} of {key}"
        return f"{places.shown}, line {places.line(key, number)}, {name}"


def _lines_of_entries(text: str) -> dict[str, "array[int]"]:
    """Return the line of each entry in each list of a JSON text whose root is an object."""
    lines: dict[str, array[int]] = {}
    at = _skip(text, 0, "{")
    line, counted = 1, 0
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at, ":")
        if text[at] != "[":
            at = _skip(text, _DECODER.raw_decode(text, at)[1], ",")
            continue
        lines[key] = array("q")
        at = _skip(text, at, "[")
        while text[at] != "]":
            line, counted = line + text.count("\n", counted, at), at
            lines[key].append(line)
            at = _skip(text, _DECODER.raw_decode(text, at)[1], ",")
        at = _skip(text, _skip(text, at, "]"), ",")
    return lines


def _skip(text: str, at: int, sign: str) -> int:
    """Return where the text goes on behind spaces, a sign if it is there, and more spaces."""
    at = _end_of_space(text, at)
    return _end_of_space(text, at + 1) if text.startswith(sign, at) else at


def _end_of_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
