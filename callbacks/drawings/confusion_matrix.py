"""Draw confusion matrices: of classes, of labels and by group, right predictions in one hue and errors in another."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .canvas.captions import shorten
from .canvas.chart import Panel
from .canvas.fonts import shown_names
from .canvas.matrix_sheet import MatrixSheet
from .canvas.text import text_length
from .canvas.theme import ABSENT, BLUE, CHART_WIDTH, GAP, GREY, INK, ORANGE, PAPER, TEXT_LINE, TEXT_SIZE, Colour

NORMALIZATIONS = ("true", "pred", "all", "none")

_MOST_SIDE = 430  # rows that a picture has a pixel for; of more, several are one
_MOST_CONFUSED = 3  # lines below the matrix
_CAPTION_WIDTH = 210  # of the scale of colours
_LEAST_SEEN = 6  # pixels of a cell that is seen in a card
_FAINTEST = 0.15  # of the full colour, so that a rare error is no white
# Least count, divisor and sign of each unit: up to four digits are as short as thousands with their sign.
_UNITS = ((10**12, 10**12, "T"), (10**9, 10**9, "G"), (10**6, 10**6, "M"), (10**4, 10**3, "k"))
_CAPTIONS = {"true": "share of true", "pred": "share of predicted", "all": "share of all", "none": "count"}
_OUTCOMES = ("no→no", "no→yes", "yes→no", "yes→yes")


@dataclass(frozen=True)
class _Table:
    """What is drawn: [R, K] cells, and numbers by row and by column at the margins.

    Attributes:
        counts: of each cell, integers.
        hits: the part of each count that is right.
        shares: that give the colours; NaN where a total is 0.
        right: by caption, a number per row; those of type float are shares.
        below: by caption, a number per column.
        corner: numbers where both margins meet, one per row below.
    """

    counts: np.ndarray
    hits: np.ndarray
    shares: np.ndarray
    right: Mapping[str, np.ndarray]
    below: Mapping[str, np.ndarray]
    corner: Sequence[np.ndarray] = ()


def draw_confusion_matrix(
    counts: np.ndarray,
    names: Sequence[str],
    title: Sequence[str],
    *,
    normalize: str = "true",
    every: int = 1,
    hits: np.ndarray | None = None,
    background: bool = False,
) -> np.ndarray:
    """Draw the matrix of one set of classes, with totals, recall and precision at its margins.

    Args:
        counts: [C, C], integers; rows are true, columns predicted.
        names: of the C classes.
        title: lines above.
        normalize: one of ``NORMALIZATIONS``: the total that cells are shares of.
        every: number of classes that a row stands for, by which rows are numbered.
        hits: [C], how many of the counts on the diagonal are right; None: all.
        background: whether the last class is where nothing is, which has neither recall nor precision.

    Returns:
        [H, W, 3], uint8, RGB.

    Example:
        >>> counts = np.array([[8, 2], [1, 9]])
        >>> picture = draw_confusion_matrix(counts, ["cat", "dog"], ["valid, epoch 1"])
        >>> picture.shape[1:], picture.dtype.name
        ((700, 3), 'uint8')
    """
    names, hits = shown_names(names), counts.diagonal() if hits is None else hits
    notes = _name_confusions(counts, names) if every == 1 and len(names) > 2 else []
    if (several := -(-len(counts) // _MOST_SIDE)) > 1:
        counts, hits, names, every = _merge(counts, several), _merge(hits, several), names[::several], several * every
    if every > 1:
        title = [*title, f"each cell is {every} x {every} classes"]
    true, predicted = counts.sum(axis=1), counts.sum(axis=0)
    totals = {"true": true[:, None], "pred": predicted[None], "all": counts.sum(), "none": counts.max()}
    recall, precision = _divide(hits, true), _divide(hits, predicted)
    if background:
        recall[-1] = precision[-1] = np.nan
    table = _Table(
        counts,
        np.diag(hits),
        _divide(counts, totals[normalize]),
        {"recall": recall, "total": true},
        {"precision": precision, "total": predicted},
        (np.array(np.nan) if background else _divide(hits.sum(), true.sum()), true.sum()),
    )
    return _draw_table(
        table, (names, names), ("true", "predicted →"), title, normalize, 100 if len(names) < 5 else None, every, notes
    )


def draw_label_matrix(
    counts: np.ndarray, names: Sequence[str], title: Sequence[str], *, normalize: str = "true"
) -> np.ndarray:
    """Draw the matrices of no and yes of several labels, one row each, with precision and recall beside it.

    Args:
        counts: [L, 2, 2], integers; true by predicted.
        names: of the L labels.
        title: lines above.
        normalize: ``true``: cells are shares of the label's samples that are truly no, or yes; ``none``: counts.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    # A row of the picture is a label, so that its four cells have the totals of both true values.
    totals = counts.sum(axis=2, keepdims=True) if normalize == "true" else counts.max()
    cells, yes = counts.reshape(-1, 4), counts[:, 1, 1]
    table = _Table(
        cells,
        cells * np.array([1, 0, 0, 1]),
        _divide(cells, np.broadcast_to(totals, counts.shape).reshape(-1, 4)),
        {"precision": _divide(yes, counts[:, :, 1].sum(axis=1)), "recall": _divide(yes, counts[:, 1].sum(axis=1))},
        {},
    )
    axes = ("label", "true → predicted")
    return _draw_table(table, (shown_names(names), _OUTCOMES), axes, title, normalize, _row_height(len(names)))


def draw_confusion_by_group(
    counts: np.ndarray, names: Sequence[str], groups: Sequence[str], title: Sequence[str]
) -> np.ndarray:
    """Draw the matrices of several groups of samples.

    Args:
        counts: [G, C, C], integers: by group, true and predicted class.
        names: of the C classes.
        groups: names of the G groups.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB: a row for each group and true class, with shares of the row, recall and total.
    """
    names = shown_names(names)
    rows = counts.reshape(-1, counts.shape[2])
    hits = np.concatenate([np.diag(of.diagonal()) for of in counts])
    true = rows.sum(axis=1)
    right = {"recall": _divide(hits.sum(axis=1), true), "total": true}
    table = _Table(rows, hits, _divide(rows, true[:, None]), right, {})
    axes = ("true", "predicted →")
    return _draw_table(
        table, (names * len(groups), names), axes, title, "true", _row_height(len(rows)), blocks=shown_names(groups)
    )


def _draw_table(
    table: _Table,
    names: tuple[Sequence[str], Sequence[str]],
    axes: tuple[str, str],
    title: Sequence[str],
    normalize: str,
    row_height: int | None,
    every: int = 1,
    notes: Sequence[str] = (),
    blocks: Sequence[str] = (),
) -> np.ndarray:
    sheet = MatrixSheet(
        names,
        axes,
        title,
        row_height=row_height,
        right=list(table.right),
        below={caption: [_margin_text(value) for value in values] for caption, values in table.below.items()},
        rest=GAP + (len(notes) + 3) * TEXT_LINE + 2 * GAP,
        every=every,
        blocks=blocks,
    )
    sheet.paste(_cells(table, sheet), sheet.panel.left, sheet.panel.top)
    sheet.frame(sheet.panel)
    sheet.name_blocks()
    _write_numbers(sheet, table, normalize)
    _draw_margins(sheet, table)
    for index, note in enumerate(notes):
        text = shorten(note, CHART_WIDTH - 2 * GAP, TEXT_SIZE)
        sheet.text((GAP, sheet.foot + GAP + index * TEXT_LINE), text)
    most = int(table.counts.max()) if normalize == "none" else None
    top = sheet.foot + 2 * GAP + len(notes) * TEXT_LINE
    _draw_scale(sheet, top, _scale_entries(most), _CAPTIONS[normalize], absent=bool(np.isnan(table.shares).any()))
    return np.array(sheet.canvas)


def _cells(table: _Table, sheet: MatrixSheet) -> np.ndarray:
    """Return the cells as a picture of the size of the panel; small errors are as large as a card can show."""
    rows, columns = (_places(count, size) for count, size in zip(sheet.counts, _panel_size(sheet), strict=True))
    is_hit = table.hits > 0
    levels = {
        kind: np.where(mask, np.nan_to_num(table.shares), 0).astype(np.float32)[rows][:, columns]
        for kind, mask in (("error", ~is_hit), ("right", is_hit))
    }
    if min(sheet.cell) < _LEAST_SEEN:
        # The larger of neighbours, so that no error is hidden by one beside it.
        size = [max(1, _LEAST_SEEN if cell < _LEAST_SEEN else 1) for cell in sheet.cell]
        levels = {kind: cv2.dilate(level, np.ones((size[1], size[0]), np.uint8)) for kind, level in levels.items()}
    drawn = np.where(
        (levels["right"] > 0)[..., None], _colours(levels["right"], BLUE), _colours(levels["error"], ORANGE)
    )
    drawn[np.isnan(table.shares)[rows][:, columns]] = ABSENT
    return drawn


def _panel_size(sheet: MatrixSheet) -> tuple[int, int]:
    return sheet.panel.height, sheet.panel.width


def _places(count: int, size: int) -> np.ndarray:
    """Return the cell that each pixel belongs to."""
    edges = [round(index * size / count) for index in range(count + 1)]
    return np.repeat(np.arange(count), np.diff(edges))


def _write_numbers(sheet: MatrixSheet, table: _Table, normalize: str) -> None:
    """Write share and count into each cell that is not empty and has room; of one, the number that gives the colour."""
    width, height = sheet.cell
    if height < TEXT_SIZE + 3:
        return
    colours = {kind: _colours(np.nan_to_num(table.shares), full) for kind, full in ((True, BLUE), (False, ORANGE))}
    # Empty cells stay empty: zeros would hide where the counts are.
    for row, column in zip(*np.nonzero(table.counts), strict=True):
        count, share = _compact(int(table.counts[row, column])), table.shares[row, column]
        lines = [count] if normalize == "none" else [_percent(share)]
        if normalize != "none" and height >= 2 * TEXT_LINE - 4 and width >= 70:
            lines = [f"{lines[0]}%", count]
        if _widest(lines) > width + 2:
            continue
        left, top, right, bottom = sheet.box(row, column)
        fill = _ink_on(colours[bool(table.hits[row, column] > 0)][row, column])
        for index, line in enumerate(lines):
            y = (top + bottom) / 2 + (index - (len(lines) - 1) / 2) * (TEXT_SIZE + 3)
            sheet.text(((left + right) / 2, y), line, anchor="mm", fill=fill)


def _draw_margins(sheet: MatrixSheet, table: _Table) -> None:
    rows, columns = table.counts.shape
    for place, values in enumerate(table.right.values()):
        boxes = [sheet.box(row, columns + place) for row in range(rows)]
        texts = [_margin_text(value) for value in values] if sheet.cell[1] >= TEXT_SIZE + 3 else []
        _draw_margin(sheet, boxes, values, texts)
    for place, (values, lower) in enumerate(zip(table.below.values(), sheet.lower, strict=True)):
        boxes = [sheet.box(rows + place, column) for column in range(columns)]
        _draw_margin(sheet, boxes, values, lower.texts, below=True, is_turned=lower.is_turned)
    for place, value in enumerate(table.corner):
        _write_in(sheet, sheet.box(rows + place, columns + place), _margin_text(value))


def _draw_margin(
    sheet: MatrixSheet,
    boxes: Sequence[tuple[int, int, int, int]],
    values: np.ndarray,
    texts: Sequence[str],
    *,
    below: bool = False,
    is_turned: bool = False,
) -> None:
    """Write the numbers of a margin, or draw them as bars where there is no room for texts."""
    if texts:
        for box, text in zip(boxes, texts, strict=True):
            _write_in(sheet, box, text, is_turned=is_turned)
        return
    is_share = np.issubdtype(values.dtype, np.floating)
    full, rest = (BLUE, ORANGE) if is_share else (GREY, PAPER)
    shares = values if is_share else values / max(values.max(), 1)
    for (left, top, right, bottom), share in zip(boxes, shares.tolist(), strict=True):
        start, end = (top, bottom) if below else (left + 4, right - 4)
        if math.isnan(share):
            sheet.rectangle(left, top, right, bottom, ABSENT)
        elif below:
            sheet.rectangle(left, start, right, end, rest)
            sheet.rectangle(left, end - share * (end - start), right, end, full)
        else:
            sheet.rectangle(start, top, end, bottom, rest)
            sheet.rectangle(start, top, start + share * (end - start), bottom, full)


def _widest(texts: Sequence[str]) -> float:
    return max(text_length(text, TEXT_SIZE) for text in texts)


def _margin_text(value: np.ndarray) -> str:
    if not np.issubdtype(np.asarray(value).dtype, np.floating):
        return _compact(int(value))
    return "-" if np.isnan(value) else f"{_percent(float(value))}%"


def _write_in(sheet: MatrixSheet, box: tuple[int, int, int, int], text: str, *, is_turned: bool = False) -> None:
    middle = (box[0] + box[2]) / 2
    if is_turned:
        # From above, so that numbers begin beside the cells whatever their length.
        sheet.vertical_text((middle, box[1] + 4 + text_length(text, TEXT_SIZE)), text)
    else:
        sheet.text((middle, (box[1] + box[3]) / 2), text, anchor="mm")


def _draw_scale(sheet: MatrixSheet, top: int, entries: Mapping[float, str], caption: str, *, absent: bool) -> None:
    """Draw the colours of the levels ``entries``, of right predictions above those of errors."""
    left, width = GAP + _CAPTION_WIDTH, (CHART_WIDTH - 2 * GAP - _CAPTION_WIDTH) // 6
    for line, (kind, full) in enumerate((("right", BLUE), ("error", ORANGE))):
        above = top + line * TEXT_LINE
        sheet.text((GAP, above), kind)
        for place, level in enumerate(entries):
            red, green, blue = _colours(np.array([level]), full)[0].tolist()
            start = left + place * width
            sheet.rectangle(start, above, start + width, above + TEXT_LINE, (red, green, blue))
    # The first level is white.
    sheet.frame(Panel(left, top, len(entries) * width, 2 * TEXT_LINE))
    below = top + 2 * TEXT_LINE + 6
    sheet.text((GAP, below), caption)
    for place, text in enumerate(entries.values()):
        sheet.text((left + (place + 0.5) * width, below), text, anchor="ma")
    if absent:
        sheet.rectangle(CHART_WIDTH - GAP - width + 10, top, CHART_WIDTH - GAP, top + 2 * TEXT_LINE, ABSENT)
        sheet.text((CHART_WIDTH - GAP - (width - 10) / 2, below), "none", anchor="ma")


def _scale_entries(most: int | None) -> dict[float, str]:
    """Return the texts of a scale of counts up to ``most``, by level; None: of shares."""
    # As set of counts, because a small maximum makes several levels one count.
    levels = (0.0, 0.05, 0.25, 0.5, 1.0)
    if most is None:
        return {level: f"{level:.0%}" for level in levels}
    return {count / max(most, 1): _compact(count) for count in sorted({round(level * most) for level in levels})}


def _colours(shares: np.ndarray, full: Colour) -> np.ndarray:
    """Return the colours of shares from white to ``full``, [..., 3], uint8."""
    colours = np.full((*shares.shape, 3), PAPER, dtype=np.uint8)
    some = shares > 0  # with many classes these are few, and computing all colours would take long
    # By the square root, so that rare confusions can be seen.
    levels = (_FAINTEST + (1 - _FAINTEST) * np.sqrt(shares[some].clip(0, 1)))[:, None]
    colours[some] = (np.array(PAPER) + levels * (np.array(full) - np.array(PAPER))).round()
    return colours


def _ink_on(colour: np.ndarray) -> Colour:
    # Luminance of sRGB, roughly: white on what is dark.
    return PAPER if float(colour @ np.array([0.299, 0.587, 0.114])) < 130 else INK


def _divide(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Return shares; a total of 0 gives NaN, which is drawn as absent: 0 of 0 is not a share of 0."""
    found: np.ndarray = counts / np.where(totals > 0, totals, np.nan)
    return found


def _merge(counts: np.ndarray, several: int) -> np.ndarray:
    """Return sums of ``several`` neighbours along each axis."""
    for axis in range(counts.ndim):
        counts = np.add.reduceat(counts, np.arange(0, counts.shape[axis], several), axis=axis)
    return counts


def _name_confusions(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    """Return a line for each of the largest confusions."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    flat = wrong.reshape(-1)
    # Stable, so that equal counts keep the order of classes.
    some = np.flatnonzero(flat)
    largest = some[np.argsort(-flat[some], kind="stable")][:_MOST_CONFUSED]
    pairs = [(int(place) // len(names), int(place) % len(names)) for place in largest]
    return [
        f"{names[true]} as {names[predicted]}: {counts[true, predicted]:,} of {counts[true].sum():,}"
        for true, predicted in pairs
    ]


def _row_height(rows: int) -> int:
    return next((height for most, height in ((12, 62), (30, 32)) if rows <= most), max(1, 960 // rows))


def _percent(share: float) -> str:
    """Return a share in whole percent; "<1" and ">99" where rounding would give none or all."""
    if 0 < share <= 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1 else f"{100 * share:.0f}"


def _compact(count: int) -> str:
    """Return a count in about four characters."""
    # A cell holds about four characters.
    for threshold, factor, sign in _UNITS:
        if count >= threshold:
            return f"{count / factor:.1f}{sign}" if count < 10 * factor else f"{count / factor:.0f}{sign}"
    return str(count)
