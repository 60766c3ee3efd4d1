"""Lines of text on sheets of samples: written, shortened, broken into lines, and listed as far as there is room."""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from .fonts import line_length, render_line
from .theme import CAPTION_SIZE, INK, Colour


def write(
    canvas: np.ndarray, place: tuple[int, int], text: str, colour: Colour = INK, size: int = CAPTION_SIZE
) -> None:
    """Write dark text on the white of ``canvas``; ``place`` is its left and upper end, what lies outside is cut."""
    patch, (left, top) = _text_patch(text, size, colour)
    left, top = left + place[0], top + place[1]
    region = canvas[max(top, 0) : top + patch.shape[0], max(left, 0) : left + patch.shape[1]]
    # The darker of both, so that neighbouring letters do not cut each other.
    np.minimum(region, patch[: region.shape[0], : region.shape[1]], out=region)


# Rendering text costs more than all else of a grid, and most of it stands in many grids.
@lru_cache(maxsize=2048)
def _text_patch(text: str, size: int, colour: Colour) -> tuple[np.ndarray, tuple[int, int]]:
    """Return text on white, [h, w, 3], and the place of its corner."""
    mask, offset = render_line(text, size)
    if mask is None:
        return np.empty((0, 0, 3), dtype=np.uint8), (0, 0)
    # In integers with rounding, as the blend of Pillow; uint16, as the products exceed 255.
    cover = np.asarray(mask, dtype=np.uint16)[:, :, None]
    patch = 255 - (cover * (255 - np.array(colour, dtype=np.uint16)) + 127) // 255
    return patch.astype(np.uint8), offset


@lru_cache(maxsize=4096)
def shorten(text: str, width: int, size: int = CAPTION_SIZE) -> str:
    """Return ``text`` without as much of its middle as needed to be at most ``width`` pixels wide."""
    # The middle goes, as the ends of paths and ids tell samples apart.
    text = " ".join(text.splitlines())
    if line_length(text, size) <= width:
        return text
    # By halving, as measuring each length of a very long id would take long.
    fits, too_long = 1, len(text)
    while too_long - fits > 1:
        keep = (fits + too_long) // 2
        if line_length(_without_middle(text, keep), size) <= width:
            fits = keep
        else:
            too_long = keep
    return _without_middle(text, fits)


def break_lines(text: str, width: int, size: int) -> list[str]:
    """Return a text in lines of at most ``width`` pixels, broken between words; a word that is longer is shortened."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and line_length(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(shorten(word, width, size))
    return lines


def list_names(head: str, names: Sequence[str], width: int) -> str:
    """Return ``head`` and as many of the names as fit into ``width`` pixels; the others are counted ("+3 more")."""
    for shown in range(min(len(names), width // 4), 0, -1):  # a name and its comma are wider than 4 pixels
        text = f"{head}: {', '.join(names[:shown])}" + (f" +{len(names) - shown} more" if shown < len(names) else "")
        if line_length(text, CAPTION_SIZE) <= width:
            return text
    more = f" +{len(names) - 1} more" if len(names) > 1 else ""
    return f"{head}: {shorten(names[0], width - math.ceil(line_length(f'{head}: {more}', CAPTION_SIZE)))}{more}"


def _without_middle(text: str, keep: int) -> str:
    return f"{text[: math.ceil(keep / 2)]}…{text[len(text) - keep // 2 :]}"
