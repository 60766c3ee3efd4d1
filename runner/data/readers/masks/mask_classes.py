"""Which class a stored value of a mask is: by a file of classes, by a palette, or by the values that masks hold."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from assay.callbacks.errors import UsageError

from ...files.image_errors import BadImageError
from ...files.mask_files import read_mask
from .class_files import Colour, NamedClass, read_class_file
from .mask_scan import Found, code_of, colour_of

IGNORED = 255
"""In a target: a pixel that does not count."""

_MOST_CLASSES = 255  # numbers below IGNORED
_SHOWN = 8  # values in a message
_MANY, _SMOOTHED = 8, 0.1  # values between black and white, and the largest share of pixels that have them
_GREY_STEP = 2  # rounding of grey levels at equal distances
_BACKGROUND, _OBJECT = "background", "object"


@dataclass(frozen=True)
class MaskClasses:
    """The classes of masks, and how a file shows them.

    Attributes:
        names: of the classes.
        class_of: the class of each stored value, or of each colour's number; ``IGNORED`` of what does not count.
        are_colours: whether masks hold colours.
        palette: colours of the classes to show them by, [C, 3] uint8; None where the data set has none.
        described: how values are taken, in words.
    """

    names: tuple[str, ...]
    class_of: Mapping[int, int]
    are_colours: bool
    palette: np.ndarray | None
    described: str

    def read(self, path: str) -> np.ndarray:
        """Return a mask, [H, W] uint8, with classes and ``IGNORED``.

        Raises:
            BadImageError: it cannot be read, or holds a value that is no class.
        """
        if self.are_colours:
            # Several colours may be of what does not count, and read_mask takes each class once.
            colours = {place: colour_of(code) for place, code in enumerate(self.class_of)}
            table = np.array(list(self.class_of.values()), dtype=np.uint8)
            classes: np.ndarray = table[read_mask(path, colours=colours)]
            return classes
        values = read_mask(path)
        if unknown := self.unknown(values_of(values)):
            raise BadImageError(f"mask {path!r} holds {shown(unknown)}, and the classes are {self.described}")
        return np.asarray(cv2.LUT(values, self._table)) if values.dtype == np.uint8 else self._table[values]

    def unknown(self, values: np.ndarray) -> list[int]:
        """Return those of some values that are no class."""
        return [int(value) for value in values if int(value) not in self.class_of]

    def held(self, values: np.ndarray) -> np.ndarray:
        """Return the classes of some values, rising, int64, without ``IGNORED``."""
        classes = {self.class_of[int(value)] for value in values} - {IGNORED}
        return np.array(sorted(classes), dtype=np.int64)

    @property
    def _table(self) -> np.ndarray:
        table = np.full(max(256, *(value + 1 for value in self.class_of)), IGNORED, dtype=np.uint8)
        table[list(self.class_of)] = list(self.class_of.values())
        return table


def values_of(mask: np.ndarray) -> np.ndarray:
    """Return the values of a mask, rising; negative ones too."""
    if mask.dtype == np.uint8:
        return np.flatnonzero(np.bincount(mask.reshape(-1), minlength=256))
    return np.unique(mask)


def shown(values: Sequence[int], *, are_colours: bool = False) -> str:
    """Return values, or the colours of their numbers, for a message."""
    named = [str(colour_of(value) if are_colours else value) for value in values[:_SHOWN]]
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(named) + more


def find_classes(root: str, file: Path | None, found: Sequence[Found]) -> MaskClasses:
    """Return the classes of masks.

    Args:
        root: the folder of the data set, for messages.
        file: that names the classes; None where there is none.
        found: what masks hold.

    Raises:
        UsageError: masks hold numbers and colours, or nothing that classes can be told by.
    """
    held = [one for one in found if len(one.values)]
    if not held:
        problem = next((one.problem for one in found if one.problem), "there is none")
        raise UsageError(f"{root}: no mask can be read: {problem}.")
    are_colours = held[0].is_colours
    if any(one.is_colours != are_colours for one in held):
        raise UsageError(f"{root}: some masks hold class numbers and others colours: save all of them alike.")
    values = sorted({int(value) for one in held for value in one.values})
    named = [] if file is None else read_class_file(file)
    if named and (named[0].colour is not None or named[0].value is not None):
        return _of_file(file, named, held, are_colours)
    palette = next((one.palette for one in held if one.palette is not None), None)
    if not named and palette is None:
        _check_not_smoothed(root, held)
    names = [one.name for one in named]
    if not are_colours:
        return _of_numbers(root, file, names, values, palette, voids=[one.is_void for one in named])
    if all(code_of((code & 255,) * 3) == code for code in values):  # grey, saved as colours
        grey = _of_numbers(root, file, names, [code & 255 for code in values], None, voids=[])
        class_of = {code_of((value,) * 3): number for value, number in grey.class_of.items()}
        return MaskClasses(grey.names, class_of, True, None, grey.described)
    return _of_colours(root, file, names, values)


def _check_not_smoothed(root: str, held: Sequence[Found]) -> None:
    """Refuse masks of black and white that were smoothed or compressed, whose greys would be taken for classes."""
    greys: Counter[int] = Counter()
    for one in held:
        if one.is_colours and not all(code_of((code & 255,) * 3) == code for code in one.values):
            return
        values = one.values & 255 if one.is_colours else one.values
        greys.update(dict(zip(values.tolist(), one.counts.tolist(), strict=True)))
    between = {value: count for value, count in greys.items() if value not in (0, IGNORED)}
    share = sum(between.values()) / max(1, greys.total())
    has_both = greys[0] > 0 and greys[IGNORED] > 0
    # Numbers of classes begin at 1, and are seldom so rare.
    if has_both and len(between) >= _MANY and IGNORED / 2 < max(between) < IGNORED and share < _SMOOTHED:
        raise UsageError(
            f"{root}: masks hold 0 and 255, and {len(between)} values between in {share:.1%} of the pixels, as after "
            "smoothing or compression: save them with 0 and 255 alone, or name the classes in classes.txt."
        )


def _of_file(file: Path | None, named: list[NamedClass], held: Sequence[Found], are_colours: bool) -> MaskClasses:
    """Return classes that have a value or a colour each."""
    counted = [one for one in named if not one.is_void]
    numbers = {one.name: number for number, one in enumerate(counted)}
    file_name = file.name if file else ""
    colours = [one.colour for one in counted if one.colour is not None]
    palette = np.array(colours, dtype=np.uint8) if len(colours) == len(counted) else None
    of_class = {one: numbers.get(one.name, IGNORED) for one in named}
    if are_colours:
        if palette is None:
            raise UsageError(f"{file}: masks hold colours, and it gives none: write lines such as '128 64 128 road'.")
        class_of = {code_of(one.colour): number for one, number in of_class.items() if one.colour is not None}
    elif palette is None:
        class_of = {one.value: number for one, number in of_class.items() if one.value is not None}
        class_of.setdefault(IGNORED, IGNORED)
    else:
        class_of = _by_order_or_palette(named, of_class, held)
    names = tuple(one.name for one in counted)
    _check_count(file_name, names)
    void = ", ".join(one.name for one in named if one.is_void)
    return MaskClasses(
        names, class_of, are_colours, palette, f"those of {file_name}" + (f", {void} not counted" if void else "")
    )


def _by_order_or_palette(
    named: list[NamedClass], of_class: Mapping[NamedClass, int], held: Sequence[Found]
) -> dict[int, int]:
    """Return the class of each number, of classes that have colours: by a palette's colours, or else by their order."""
    palette = next((one.palette for one in held if one.palette is not None), None)
    by_colour = {one.colour: number for one, number in of_class.items()}
    if palette is not None:
        used = sorted({int(value) for one in held for value in one.values if value < len(palette)})
        colour_at: dict[int, Colour] = {value: colour_of(code_of(palette[value])) for value in used}
        if all(colour in by_colour or value == IGNORED for value, colour in colour_at.items()):
            return {value: by_colour.get(colour, IGNORED) for value, colour in colour_at.items()}
    return {**{number: of_class[one] for number, one in enumerate(named)}, IGNORED: IGNORED}


def _of_numbers(
    root: str, file: Path | None, names: list[str], values: list[int], palette: np.ndarray | None, voids: list[bool]
) -> MaskClasses:
    """Return the classes of stored numbers, with names or without."""
    counted = [value for value in values if value != IGNORED]
    if values == [0]:
        raise UsageError(f"{root}: all masks hold 0 alone: there is nothing to learn from.")
    if len(names) <= 2 and not any(voids) and set(counted) <= {0, 1}:
        return _of_two(names, values)
    if names:
        names, class_of, described = _of_names(str(file), names, counted, voids or [False] * len(names))
    elif palette is None and _are_grey_levels(values):
        class_of = {value: number for number, value in enumerate(values)}
        names, described = [str(value) for value in values], f"grey levels {shown(values)}"
    elif len(counted) * 2 >= counted[-1] + 1:
        class_of = {value: value for value in range(counted[-1] + 1)}
        names, described = [str(value) for value in class_of], f"numbers 0 to {counted[-1]}"
    else:
        class_of = {value: number for number, value in enumerate(counted)}
        names, described = [str(value) for value in counted], f"values {shown(counted)}"
    _check_count(root, names)
    if IGNORED not in class_of:
        class_of[IGNORED] = IGNORED
        described += ", 255 not counted"
    colours = None if palette is None else _colours_of(palette, class_of, len(names))
    return MaskClasses(tuple(names), class_of, False, colours, described)


def _of_two(names: list[str], values: list[int]) -> MaskClasses:
    names = names if len(names) == 2 else [_BACKGROUND, *(names or [_OBJECT])]
    if 1 in values:
        return MaskClasses(tuple(names), {0: 0, 1: 1, IGNORED: IGNORED}, False, None, "0 and 1, 255 not counted")
    return MaskClasses(tuple(names), {0: 0, IGNORED: 1}, False, None, "0 and 255")


def _of_names(
    file: str, names: list[str], values: list[int], voids: list[bool]
) -> tuple[list[str], dict[int, int], str]:
    """Return the names that count, the class of each value by the order of the names, and that in words."""
    kept = [name for name, is_void in zip(names, voids, strict=True) if not is_void]
    numbers = np.cumsum([not is_void for is_void in voids]) - 1
    classes = [IGNORED if is_void else int(number) for number, is_void in zip(numbers, voids, strict=True)]
    described = f"those of {os.path.basename(file)}"
    if any(voids):
        described += f", {', '.join(name for name, is_void in zip(names, voids, strict=True) if is_void)} not counted"
    largest = values[-1] if values else 0
    if largest == len(names) and kept == names and _BACKGROUND not in map(str.lower, names):
        return [_BACKGROUND, *names], {value: value for value in range(largest + 1)}, f"{described}, 0 the background"
    if largest >= len(names) and len(values) == len(names):
        return kept, dict(zip(values, classes, strict=True)), f"{described}, by rising value"
    return kept, dict(enumerate(classes)), described


def _are_grey_levels(values: list[int]) -> bool:
    """Whether values are at equal distances from black to white."""
    if len(values) < 3 or values[0] != 0 or values[-1] != IGNORED:
        return False
    levels = np.linspace(0, IGNORED, len(values))
    return bool(np.abs(levels - values).max() <= _GREY_STEP)


def _of_colours(root: str, file: Path | None, names: list[str], codes: list[int]) -> MaskClasses:
    colours = [colour_of(code) for code in codes]
    if names or len(codes) > _MOST_CLASSES:
        lines = "; ".join(" ".join(map(str, colour)) + " NAME" for colour in colours[:_SHOWN])
        where = file or os.path.join(root, "label_colors.txt")
        raise UsageError(
            f"{root}: masks hold {len(codes):,} colours, and no file says which class each is: write lines with the "
            f"name of each into {where}: {lines}{' and so on' if len(codes) > _SHOWN else ''}."
        )
    found = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in colours]
    class_of = {code: number for number, code in enumerate(codes)}
    described = f"colours {', '.join(found[:_SHOWN])}; label_colors.txt can name them"
    return MaskClasses(tuple(found), class_of, True, np.array(colours, dtype=np.uint8), described)


def _colours_of(palette: np.ndarray, class_of: Mapping[int, int], count: int) -> np.ndarray | None:
    colours = np.zeros((count, 3), dtype=np.uint8)
    for value, number in class_of.items():
        if number < count and value < len(palette):
            colours[number] = palette[value]
    # A palette of greys, or with one colour for several classes, shows nothing.
    is_of_use = bool(np.ptp(colours, axis=1).any()) and len(np.unique(colours, axis=0)) == count
    return colours if is_of_use else None


def _check_count(place: str, names: Sequence[str]) -> None:
    if not 1 < len(names) <= _MOST_CLASSES:
        raise UsageError(f"{place}: masks must have 2 to {_MOST_CLASSES} classes that count, got {len(names)}.")
