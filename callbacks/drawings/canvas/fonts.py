"""Fonts for any script: DejaVu Sans, and for letters that it lacks a font of the machine."""

import logging
import math
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.font_manager import findSystemFonts
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont, features

# Matplotlib ships DejaVu Sans, which has Latin, Greek and Cyrillic letters and some others; Pillow's own font is ASCII.
DEJAVU = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
# Scripts whose letters change their form and order beside each other.
_SHAPED = ((0x0900, 0x0DFF), (0x0F00, 0x109F), (0x1780, 0x17FF))  # Indic scripts, Tibetan, Burmese, Khmer
_ARROW = re.compile("( ?→ )")
_SPACES = (0x200D, *range(0xFE00, 0xFE10))  # joiner and variation selectors, which have no glyph of their own

_log = logging.getLogger("assay")


def shown_names(names: Sequence[str]) -> list[str]:
    """Return names of classes as they are drawn: where no font has the letters of one, its number, and it is logged."""
    return list(_replace_hidden(tuple(names)))


def can_draw(text: str) -> bool:
    """Whether every letter of a text is in a font, and its script can be laid out.

    Scripts that run from right to left or join their letters need the library raqm, which Pillow's wheels bring along.
    """
    is_leftward = _is_leftward(text)
    if (is_leftward or any(_is_shaped(letter) for letter in text)) and not features.check("raqm"):
        return False
    # Runs are drawn from left to right, which would put those of a leftward text in the wrong order.
    runs = split_runs(text)
    return all(path for _, path in runs) and not (is_leftward and len(runs) > 1)


@lru_cache(maxsize=4096)
def split_runs(text: str) -> tuple[tuple[str, str], ...]:
    """Return the parts of a text that are of one font each, with its path; ``""`` where there is none."""
    # From right to left, an arrow would point from the predicted to the true class: each side is drawn by itself.
    pieces = [piece for piece in _ARROW.split(text) if piece]
    if len(pieces) > 1 and _is_leftward(text):
        return tuple(run for piece in pieces for run in split_runs(piece))
    # Nearly all text: no font of the machine is looked for.
    if all(ord(letter) in _letters_of(DEJAVU) for letter in text):
        return ((text, DEJAVU),)
    runs: list[tuple[str, str]] = []
    for letter in text:
        # A combining mark belongs to the letter before it, and would stand beside it in another font.
        if runs and (unicodedata.combining(letter) or ord(letter) in _SPACES):
            runs[-1] = runs[-1][0] + letter, runs[-1][1]
            continue
        path = _font_of(letter)
        if runs and runs[-1][1] == path:
            runs[-1] = runs[-1][0] + letter, path
        else:
            runs.append((letter, path))
    return tuple(runs)


def line_length(text: str, size: int) -> float:
    """Return the width of a line in pixels."""
    return sum(font_of(path or DEJAVU, size).getlength(part) for part, path in split_runs(text))


def render_line(
    text: str, size: int, anchor: str = "la", start: tuple[float, float] = (0.0, 0.0)
) -> tuple[Image.Image | None, tuple[int, int]]:
    """Return a line as a grey mask, and the place of its corner from the anchor; None where there is nothing to see.

    Args:
        text: without line breaks.
        size: of the font in pixels.
        anchor: two letters as Pillow has them.
        start: fractions of a pixel that the anchor is at.
    """
    runs = split_runs(text)
    if len(runs) <= 1:
        path = runs[0][1] if runs else DEJAVU
        # What ImageDraw.text calls itself: the pixels of a line in one font are those of Pillow.
        mask, offset = font_of(path or DEJAVU, size).getmask2(text, "L", anchor=anchor, start=start)
        if 0 in mask.size:
            return None, (0, 0)
        return Image.frombytes("L", mask.size, bytes(mask)), (int(offset[0]), int(offset[1]))
    # Several fonts stand on one baseline, with room around: letters may reach past their line. What is empty is cut.
    ascent, descent = font_of(DEJAVU, size).getmetrics()
    width, left = line_length(text, size), 0.0
    canvas = Image.new("L", (math.ceil(width) + 2 * size, 4 * size), 0)
    ink = ImageDraw.Draw(canvas)
    for part, path in runs:
        ink.text((size + left, 2 * size), part, fill=255, font=font_of(path or DEJAVU, size), anchor="ls")
        left += font_of(path or DEJAVU, size).getlength(part)
    box = canvas.getbbox()
    if box is None:
        return None, (0, 0)
    # By DejaVu's metrics, so that mixed lines stand where others do.
    across = {"l": 0.0, "m": width / 2, "r": width}[anchor[0]]
    down = {"a": ascent, "m": (ascent - descent) / 2, "s": 0.0, "d": -descent, "t": ascent, "b": 0.0}[anchor[1]]
    corner = box[0] - size - across + start[0], box[1] - 2 * size + down + start[1]
    return canvas.crop(box), (round(corner[0]), round(corner[1]))


# Remembered by names, so that a warning is logged once and not per picture.
@lru_cache(maxsize=64)
def _replace_hidden(names: tuple[str, ...]) -> tuple[str, ...]:
    hidden = [name for name in names if not can_draw(name)]
    if hidden:
        listed = ", ".join(hidden[:8]) + (f" and {len(hidden) - 8} more" if len(hidden) > 8 else "")
        _log.warning(
            "pictures show these classes by number, as no font of this machine can write their names: %s; "
            "a font that has the script, such as one of Noto, does once it is installed",
            listed,
        )
    return tuple(str(number) if name in hidden else name for number, name in enumerate(names))


@lru_cache(maxsize=4096)
def _font_of(letter: str) -> str:
    if ord(letter) in _letters_of(DEJAVU) or letter.isspace():
        return DEJAVU
    return next((path for path in _machine_fonts() if ord(letter) in _letters_of(path)), "")


@lru_cache(maxsize=1)
def _machine_fonts() -> tuple[str, ...]:
    """Return the fonts of the machine, those of plain letters first."""
    # Remembered, as the search reads many folders; it runs when a letter is missing for the first time.
    return tuple(sorted(findSystemFonts(), key=lambda path: ("Regular" not in path, "Sans" not in path, path)))


@lru_cache(maxsize=1024)
def _letters_of(path: str) -> frozenset[int]:
    """Return the letters of a font; none where it cannot be drawn."""
    # Fonts of coloured pictures have letters but no outlines: opening them by Pillow fails.
    try:
        font = FT2Font(path)
        ImageFont.truetype(path, 12)
        return frozenset(font.get_charmap())
    except (RuntimeError, OSError, ValueError):
        return frozenset()


def _is_leftward(text: str) -> bool:
    return any(unicodedata.bidirectional(letter) in ("R", "AL") for letter in text)


def _is_shaped(letter: str) -> bool:
    return any(first <= ord(letter) <= last for first, last in _SHAPED)


@lru_cache
def font_of(path: str, size: int) -> ImageFont.FreeTypeFont:
    """Return a font in a size in pixels."""
    return ImageFont.truetype(path, size)
