"""Draw confusion matrices: of classes, of labels and by group, with numbers where cells have room."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

from .canvas.fonts import shown_names
from .canvas.matrix_sheet import MatrixSheet
from .canvas.theme import ABSENT, AXES, GAP, INK, PAPER, SWATCH, SWATCH_INDENT, TEXT_SIZE, Colour

NORMALIZATIONS = ("true", "pred", "all", "none")

_CELL_WIDTH = 76  # room for two lines of numbers, where rows are low
_FULL: Colour = (8, 48, 107)  # of a share of 1: dark enough for white numbers
# Least count, divisor and sign of each unit: up to four digits are as short as thousands with their sign.
_UNITS = ((10**12, 10**12, "T"), (10**9, 10**9, "G"), (10**6, 10**6, "M"), (10**4, 10**3, "k"))
_CAPTIONS = {"true": "share of true", "pred": "share of predicted", "all": "share of all", "none": "count"}
_OUTCOMES = ("no as no", "no as yes", "yes as no", "yes as yes")


def draw_confusion_matrix(
    counts: np.ndarray, names: Sequence[str], title: Sequence[str], *, normalize: str = "true", every: int = 1
) -> np.ndarray:
    """Draw the matrix of one set of classes.

    Args:
        counts: [C, C], integers; rows are true, columns predicted.
        names: of the C classes.
        title: lines above.
        normalize: one of ``NORMALIZATIONS``: the total that cells are shares of.
        every: number of classes that a row stands for, by which rows are numbered.

    Returns:
        [H, W, 3], uint8, RGB.

    Example:
        >>> counts = np.array([[8, 2], [1, 9]])
        >>> picture = draw_confusion_matrix(counts, ["cat", "dog"], ["valid, epoch 1"])
        >>> picture.shape, picture.dtype.name
        ((227, 323, 3), 'uint8')
    """
    totals = {
        "true": counts.sum(axis=1, keepdims=True),
        "pred": counts.sum(axis=0, keepdims=True),
        "all": counts.sum(),
        "none": counts.max(),
    }
    names = shown_names(names)
    sheet = MatrixSheet((names, names), ("true", "predicted"), title, every=every)
    return _draw_cells(sheet, counts, totals[normalize], normalize)


def draw_label_matrix(
    counts: np.ndarray, names: Sequence[str], title: Sequence[str], *, normalize: str = "true"
) -> np.ndarray:
    """Draw the matrices of no and yes of several labels, one row each.

    Args:
        counts: [L, 2, 2], integers; true by predicted.
        names: of the L labels.
        title: lines above.
        normalize: ``true``: cells are shares of the label's samples that are truly no, or yes; ``none``: counts.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    totals = counts.sum(axis=2, keepdims=True) if normalize == "true" else counts.max()
    # A row of the picture is a label, so that its four cells have the totals of both true values.
    totals = np.broadcast_to(totals, counts.shape).reshape(-1, 4)
    sheet = MatrixSheet((shown_names(names), _OUTCOMES), ("label", "true as predicted"), title, cell_width=_CELL_WIDTH)
    return _draw_cells(sheet, counts.reshape(-1, 4), totals, normalize)


def draw_confusion_by_group(
    counts: np.ndarray, names: Sequence[str], groups: Sequence[str], axis: str, title: Sequence[str]
) -> np.ndarray:
    """Draw the matrices of several groups of samples.

    Args:
        counts: [G, C, C], integers: by group, true and predicted class.
        names: of the C classes.
        groups: names of the G groups.
        axis: name of what distinguishes the groups.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB: a row for each group and true class, with counts and shares of the row.
    """
    rows, names, groups = counts.reshape(-1, counts.shape[2]), shown_names(names), shown_names(groups)
    labels = [f"{group}: {name}" for group in groups for name in names]
    sheet = MatrixSheet((labels, names), (f"{axis}: true", "predicted"), title, cell_width=_CELL_WIDTH)
    drawn = _draw_cells(sheet, rows, rows.sum(axis=1, keepdims=True), "true")
    # A line between groups, as their rows would otherwise look like one matrix.
    for group in range(1, len(groups)):
        top = sheet.top + group * len(names) * sheet.cell[1]
        drawn[top - 1 : top + 1, sheet.left : sheet.right] = INK
    return drawn


def _draw_cells(sheet: MatrixSheet, counts: np.ndarray, totals: np.ndarray, normalize: str) -> np.ndarray:
    """Return the picture of counts [R, K] on a sheet, coloured by their shares of ``totals``."""
    # A total of 0 makes shares NaN, which are drawn as absent: 0 of 0 is not a share of 0.
    shares = counts / np.where(totals > 0, totals, np.nan)
    cells = _cell_colours(shares).repeat(sheet.cell[1], axis=0).repeat(sheet.cell[0], axis=1)
    sheet.canvas.paste(Image.fromarray(cells), (sheet.left, sheet.top))
    sheet.ink.rectangle((sheet.left - 1, sheet.top - 1, sheet.right, sheet.bottom), outline=AXES)
    if sheet.cell[1] >= 22:  # a line of text and its spacing
        _write_numbers(sheet, counts, shares, with_shares=normalize != "none")
    entries = _scale_entries(int(counts.max()) if normalize == "none" else None)
    _draw_scale(sheet, entries, _CAPTIONS[normalize], absent=bool(np.isnan(shares).any()))
    return np.array(sheet.canvas)


def _write_numbers(sheet: MatrixSheet, counts: np.ndarray, shares: np.ndarray, *, with_shares: bool) -> None:
    """Write count and share into each cell that is not empty; where one line fits, the number that gives the colour."""
    width, height = sheet.cell
    size = TEXT_SIZE if width >= 46 else 10
    # Empty cells stay empty: zeros would hide where the counts are.
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = shares[row, column]
        lines = [_compact(int(counts[row, column]))]
        if with_shares:
            percent = _percent(share)
            lines = [*lines, f"{percent}%"] if height >= 36 else [percent]
        # White on dark cells: the colour follows the square root of the share.
        fill = PAPER if math.sqrt(share) > 0.6 else INK
        x, y = sheet.left + (column + 0.5) * width, sheet.top + (row + 0.5) * height
        for index, line in enumerate(lines):
            sheet.text((x, y + (index - (len(lines) - 1) / 2) * (size + 3)), line, anchor="mm", fill=fill, size=size)


def _draw_scale(sheet: MatrixSheet, entries: Mapping[float, str], caption: str, *, absent: bool) -> None:
    """Draw the scale of colours, with the texts of ``entries`` by level from 0 to 1, and the colour of no sample."""
    left, height = sheet.right + 2 * GAP, min(max(sheet.bottom - sheet.top, 110), 320)
    # The square undoes the square root of the cells' colours: the ramp changes evenly, its numbers do not.
    ramp = np.linspace(1, 0, height)[:, None].repeat(16, axis=1) ** 2
    sheet.canvas.paste(Image.fromarray(_cell_colours(ramp)), (left, sheet.top))
    sheet.ink.rectangle((left - 1, sheet.top - 1, left + 16, sheet.top + height), outline=AXES)
    for level, text in entries.items():
        sheet.text((left + 21, sheet.top + height * (1 - math.sqrt(level))), text, anchor="lm")
    sheet.text((left, sheet.top + height + 10), caption, anchor="la")
    if absent:
        top = sheet.top + height + 32
        sheet.ink.rectangle((left, top, left + SWATCH, top + SWATCH), fill=ABSENT, outline=AXES)
        sheet.text((left + SWATCH_INDENT, top + 6), "no sample", anchor="lm")


def _scale_entries(most: int | None) -> dict[float, str]:
    """Return the texts of a scale of counts up to ``most``, by level; None: of shares."""
    # As set of counts, because a small maximum makes several levels one count.
    levels = (0.0, 0.05, 0.25, 0.5, 1.0)
    if most is None:
        return {level: f"{level:.0%}" for level in levels}
    return {count / max(most, 1): _compact(count) for count in sorted({round(level * most) for level in levels})}


def _cell_colours(shares: np.ndarray) -> np.ndarray:
    """Return the colour of each share, [..., 3]."""
    # By the square root, so that rare confusions can be seen.
    colours = np.full((*shares.shape, 3), PAPER, dtype=np.uint8)
    some = shares > 0  # with many classes these are few, and computing all colours would take long
    levels = np.sqrt(shares[some])[:, None]
    colours[some] = (np.array(PAPER) + levels * (np.array(_FULL) - np.array(PAPER))).round()
    colours[np.isnan(shares)] = ABSENT
    return colours


def _percent(share: float) -> str:
    """Return a share in whole percent; "<1" and ">99" where rounding would give none or all."""
    if 0 < share <= 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"


def _compact(count: int) -> str:
    """Return a count in about four characters."""
    # Cells of 28 pixels hold about four characters.
    for threshold, factor, sign in _UNITS:
        if count >= threshold:
            return f"{count / factor:.1f}{sign}" if count < 10 * factor else f"{count / factor:.0f}{sign}"
    return str(count)
