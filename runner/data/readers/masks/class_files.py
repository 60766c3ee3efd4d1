"""Files that name the classes of masks, with their values or colours where they have some."""

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from assay.callbacks.errors import UsageError

from ..class_names import read_text

CLASS_FILES = (
    "classes.txt", "class_names.txt", "labels.txt", "label_names.txt", "codes.txt", "classes.csv", "class_dict.csv",
    "label_colors.txt", "label_colours.txt", "labelmap.txt", "label_map.txt", "class_dict_seg.csv",
)  # fmt: skip
"""Names of such files, in any case."""

VOID_NAMES = frozenset({"void", "ignore", "ignored", "unlabeled", "unlabelled", "unlabel", "dontcare"})
"""Names, without spaces and marks, of what does not count."""

Colour = tuple[int, int, int]

_MARK = r"\s*[,;:\t ]\s*"
_RGB = rf"(?P<r>\d{{1,3}}){_MARK}(?P<g>\d{{1,3}}){_MARK}(?P<b>\d{{1,3}})"
_LINES = tuple(
    re.compile(form)
    for form in (
        rf"{_RGB}{_MARK}(?P<name>.*\D.*)",  # 64 128 64 Animal
        rf"(?P<name>.*\D.*?){_MARK}{_RGB}(?:[:,;].*)?",  # Animal,64,128,64 or Animal:64,128,64::
        rf"\#?(?P<hex>[0-9a-fA-F]{{6}}){_MARK}(?P<name>\D.*)",
        rf"(?P<name>.*\D.*?){_MARK}\#(?P<hex>[0-9a-fA-F]{{6}})",
        rf"(?P<value>\d{{1,5}}){_MARK}(?P<name>\D.*)",  # 3 tree
        r"(?P<name>.+)",
    )
)
_HEADER = re.compile(
    r"\W*(name|class|label|id|index|value|r|red)\b.*\b(name|class|label|b|blue|color|colour)\b.*", re.I
)


@dataclass(frozen=True)
class NamedClass:
    """A class as a file names it; ``value`` or ``colour`` where the line has one."""

    name: str
    value: int | None = None
    colour: Colour | None = None

    @property
    def is_void(self) -> bool:
        """Whether its pixels do not count."""
        return re.sub(r"[\W_]", "", self.name.lower()) in VOID_NAMES


def find_class_file(*folders: str | os.PathLike[str]) -> Path | None:
    """Return the file that names the classes in the first of some folders that has one."""
    for folder in map(Path, folders):
        names = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
        by_name = {path.name.lower(): path for path in names}
        if found := [by_name[name] for name in CLASS_FILES if name in by_name]:
            return found[0]
    return None


def read_class_file(path: str | os.PathLike[str]) -> list[NamedClass]:
    """Return the classes that a file names, one per line: a name, with a value or a colour before or after it.

    ::

        background          0 background        0 0 0 background        name,r,g,b
        road                7 road              128 64 128 road         background,0,0,0

    Empty lines, comments that begin with ``# `` and a header do not count.

    Raises:
        UsageError: a name, a value or a colour is there twice, a colour is none, or lines differ in form.
    """
    found: list[tuple[int, NamedClass]] = []
    for line, text in _lines(path):
        one = _parse(text)
        if one is None or (one.colour is not None and max(one.colour) > 255):
            raise UsageError(f"{os.fspath(path)}, line {line}: must be a class such as 'road', '3 road' or "
                             f"'128 64 128 road', got {text!r}.")  # fmt: skip
        _check_other(path, line, one, found)
        found.append((line, one))
    if not found:
        raise UsageError(f"{os.fspath(path)} names no class.")
    return [one for _, one in found]


def _check_other(
    path: str | os.PathLike[str], line: int, one: NamedClass, before: list[tuple[int, NamedClass]]
) -> None:
    for earlier, other in before:
        same = [what for what in ("name", "value", "colour") if getattr(one, what) == getattr(other, what) is not None]
        if same:
            shown = repr(getattr(one, same[0]))
            raise UsageError(f"{os.fspath(path)}, line {line}: the {same[0]} {shown} is in line {earlier} already.")
        if _form(one) != _form(other):
            raise UsageError(
                f"{os.fspath(path)}, line {line}: {_form(one)}, and line {earlier} is {_form(other)}: let all be alike."
            )


def _form(one: NamedClass) -> str:
    if one.colour is not None:
        return "a name with a colour"
    return "a name alone" if one.value is None else "a name with a value"


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    is_first = True
    for line, text in enumerate(read_text(path).splitlines(), 1):
        text = unicodedata.normalize("NFC", text.strip())  # systems write "é" as one character or as two
        if not text or re.match(r"#(\s|$|.*:)", text):
            continue
        if not (is_first and _HEADER.fullmatch(text)):
            yield line, text
        is_first = False


def _parse(text: str) -> NamedClass | None:
    for form in _LINES:
        parts = form.fullmatch(text)
        if parts is None:
            continue
        held: dict[str, str] = parts.groupdict()
        name = held["name"].strip(" \t,;:\"'")
        if not name:
            return None
        if "hex" in held:
            red, green, blue = bytes.fromhex(held["hex"])
            return NamedClass(name, colour=(red, green, blue))
        if "r" in held:
            return NamedClass(name, colour=(int(held["r"]), int(held["g"]), int(held["b"])))
        return NamedClass(name, int(held["value"]) if "value" in held else None)
    return None
