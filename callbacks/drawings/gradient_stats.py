"""Draw gradients by depth, the parameters of a module side by side: norms over epochs, and ranges."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from .canvas.captions import shorten
from .canvas.chart import Chart
from .canvas.text import text_length
from .canvas.theme import BLUE, CHART_WIDTH, GAP, GRID_LINES, INK, PALE_BLUE, STROKE, TEXT_LINE, TEXT_SIZE, Colour
from .parameter_rows import ParameterRow, group_parameters, shared_parts

# Apart from all colours of the norms for colour-blind people too, which no colour is from Viridis.
MISSING: Colour = (115, 115, 115)
ZERO: Colour = (0, 0, 0)
BROKEN: Colour = (235, 90, 0)

_NORMS = np.array([(25, 45, 135), (0, 110, 200), (90, 190, 245), (205, 238, 255)])  # from the smallest to the largest
_HEALTHY: Colour = (225, 225, 225)
_HEALTHY_RATIOS = (3e-4, 3e-3)  # around the rule of thumb that an update is a thousandth of its weight
_LABEL_WIDTH = 200
_SCALE_NAME = "mean norm"
_MOST_DECADES = 14  # of a scale: a tiny norm would otherwise press all others together
_LEGEND = (("no gradient", MISSING), ("norm 0", ZERO), ("✗ NaN or infinite", BROKEN))
# Widths of the panels of the flow, relative to each other.
_WIDTHS = {"range": 3.0, "norm": 1.8, "zeros": 1.0, "non_finite": 1.0, "update_ratio": 1.7}
_BETWEEN = 22  # panels
_ROOMY = 200  # width of a panel with room for three numbers; a half has room for two


#   title
#   module   +---------------+
#            |  norms, a     |  a line per parameter, the parameters of a module together
#   module   |  cell each    |
#            +---------------+
#   epoch     1    2    3
#   scale of norms
#   legend
def draw_map(norms: np.ndarray, names: Sequence[str], epochs: Sequence[int], title: Sequence[str]) -> np.ndarray:
    """Draw the norms of all parameters over epochs as colours.

    Args:
        norms: [P, E]; NaN where there was no gradient, infinite where some value was not finite.
        names: of the P parameters, P at least 1.
        epochs: their E numbers, E at least 1.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    sheet = _Sheet(names, title, np.isinf(norms).any(axis=1), rest=5 * TEXT_LINE + GAP)
    low, high = _log_range(norms)
    width = CHART_WIDTH - GAP - sheet.left
    edges = [round(index * width / len(epochs)) for index in range(len(epochs) + 1)]
    cells = _norm_colours(norms, low, high).repeat(np.diff(edges), axis=1)
    sheet.paste(cells.repeat(np.diff(sheet.edges), axis=0), sheet.left, sheet.edges[0])
    sheet.separate(sheet.left, sheet.left + width)
    # The number of an epoch needs 50 pixels: with narrow cells only some are numbered.
    for column in range(0, len(epochs), math.ceil(50 * len(epochs) / width)):
        middle = sheet.left + (edges[column] + edges[column + 1]) / 2
        sheet.text((middle, sheet.bottom + 4), str(epochs[column]), anchor="ma")
    sheet.text((sheet.left - 14, sheet.bottom + 4), "epoch", anchor="ra")
    _draw_scale(sheet, sheet.bottom + TEXT_LINE + GAP, low, high)
    sheet.legend((GAP, sheet.bottom + 4 * TEXT_LINE), _LEGEND)
    return np.array(sheet.canvas)


#   title
#           range               norm       zeros      where they apply:
#   module |-----[==|==]-----| |====      |=         NaN or infinite,
#   module |   [=|=]         | |==        |          update / weight
#           -1e0     0     1e0 1e-3  1e0
#   legend
def draw_flow(stats: Mapping[str, np.ndarray], names: Sequence[str], title: Sequence[str]) -> np.ndarray:
    """Draw how large the gradients are by depth: their range on a symmetric log scale, norm, and share of zeros.

    Args:
        stats: ``min``, ``mean``, ``max``, ``std``, ``norm``, ``zeros`` (NaN where there was no gradient),
            ``broken_steps`` and ``non_finite`` (share of such values in broken steps, NaN where it is not known), [P]
            each; optionally ``update_ratio`` (NaN where there is none). The last two have a panel where they apply.
        names: of the P parameters, P at least 1.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    broken = stats["broken_steps"] > 0
    absent = {
        kind
        for kind, is_shown in (("non_finite", broken.any()), ("update_ratio", "update_ratio" in stats))
        if not is_shown
    }
    shown = [kind for kind in _WIDTHS if kind not in absent]
    sheet = _Sheet(names, title, broken, rest=4 * TEXT_LINE + GAP, head=TEXT_LINE)
    panels = _place_panels(sheet.left, shown)
    _draw_ranges(sheet, *panels["range"], stats)
    _draw_norms(sheet, *panels["norm"], stats["norm"])
    _draw_shares(sheet, *panels["zeros"], "zeros", stats["zeros"], ZERO, least=2)
    if "non_finite" in panels:
        # What is not counted yet is drawn as all of it: it is some, and must not be missed.
        shares = np.where(broken, np.nan_to_num(stats["non_finite"], nan=1.0), 0.0)
        _draw_shares(sheet, *panels["non_finite"], "NaN", shares, BROKEN, least=STROKE)
    if "update_ratio" in panels:
        _draw_update_ratios(sheet, *panels["update_ratio"], stats["update_ratio"])
    # A row without a gradient is grey across the whole range, so that it is not taken for a range around 0.
    left, width = panels["range"]
    for index in np.flatnonzero(~np.isfinite(stats["norm"])):
        sheet.bar(index, left, left + width, MISSING)
    # Left of the range: the statistics beside the mark are those of the steps that were finite.
    for index in np.flatnonzero(broken):
        sheet.bar(index, left - 10, left - 2, BROKEN)
    sheet.separate(sheet.left - 10, CHART_WIDTH - GAP)
    top = sheet.bottom + TEXT_LINE + GAP
    sheet.legend((GAP, top), [("min to max", PALE_BLUE), ("mean ± std", BLUE), ("mean", INK)])
    sheet.legend((GAP, top + TEXT_LINE), [_LEGEND[0], ("✗ some steps NaN or infinite", BROKEN)])
    return np.array(sheet.canvas)


class _Sheet(Chart):
    """A chart with the names of modules on the left, and room for panels beside them.

    Attributes:
        left: where the panels begin.
        edges: [P + 1], where the line of each parameter begins, and where the last one ends.
        bottom: the same as the last of them.
    """

    def __init__(self, names: Sequence[str], title: Sequence[str], broken: np.ndarray, *, rest: int, head: int = 0):
        self.rows = group_parameters(names)
        starts = np.cumsum([0, *(row.count for row in self.rows)])
        tops = np.cumsum([0, *(_row_height(row.count, len(self.rows)) for row in self.rows)])
        super().__init__(head + int(tops[-1]) + rest, title)
        # Between the edges of a row its parameters have equal heights.
        self.edges = np.rint(np.interp(np.arange(len(names) + 1), starts, tops + self.top + head)).astype(np.int64)
        self.bottom = int(self.edges[-1])
        self.starts = starts
        marks = ["✗ " * bool(broken[start : start + row.count].any()) for row, start in self._placed()]
        # A cross beside the colour, which may be a thin line.
        labels = [
            a + b for a, b in zip(marks, _shorten_names([row.name for row in self.rows], _LABEL_WIDTH), strict=True)
        ]
        widest = max(text_length(label, TEXT_SIZE) for label in [*labels, _SCALE_NAME])
        self.left = GAP + math.ceil(widest) + 28
        for label, (row, start) in zip(labels, self._placed(), strict=True):
            middle = (self.edges[start] + self.edges[start + row.count]) / 2
            self.text((self.left - 16, middle), label, anchor="rm")

    def _placed(self) -> list[tuple[ParameterRow, int]]:
        return list(zip(self.rows, self.starts.tolist()[:-1], strict=True))

    def bar(self, index: int | np.integer, start: float, end: float, colour: Colour) -> None:
        # At least two pixels wide and one high, so that no value is invisible.
        top, bottom = self.edges[int(index)], self.edges[int(index) + 1]
        self.rectangle(start, top, max(end, start + 2), max(bottom, top + 1), colour)

    def separate(self, left: float, right: float) -> None:
        """Draw a line between modules."""
        for _, start in self._placed()[1:]:
            self.rectangle(left, self.edges[start] - 2, right, self.edges[start], (255, 255, 255))

    def axis(self, place: float, text: str, *, anchor: str = "ma") -> None:
        """Draw one line of a panel's grid, with its number."""
        self.rectangle(place - 1, self.edges[0], place + 1, self.bottom, GRID_LINES)
        self.text((place, self.bottom + 4), text, anchor=anchor)

    def head(self, left: float, text: str) -> None:
        self.text((left, self.edges[0] - 8), text, anchor="ls")


def _shorten_names(names: Sequence[str], width: int) -> list[str]:
    """Return dotted names that fit: their last parts if those tell them apart, or what is left without the middle."""
    ends = [_last_parts(name, width) for name in names]
    if len(set(ends)) == len(ends):
        return ends
    # What all begin with tells nothing apart.
    shared = len(shared_parts([name.split(".")[:-1] for name in names])) if len(names) > 1 else 0
    return [shorten(".".join(name.split(".")[shared:]), width, TEXT_SIZE) for name in names]


def _last_parts(name: str, width: int) -> str:
    parts = name.split(".")
    texts = ("…" * bool(start) + ".".join(parts[start:]) for start in range(len(parts)))
    return next((text for text in texts if text_length(text, TEXT_SIZE) <= width), shorten(name, width, TEXT_SIZE))


def _row_height(parameters: int, rows: int) -> int:
    """Return the height of a module: room for its name, and for a line of 3 pixels per parameter within limits."""
    return max(36 if rows > 12 else 44, min(3 * parameters, 130))


def _place_panels(left: int, kinds: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return where each panel begins, and how wide it is."""
    room = CHART_WIDTH - GAP - left - _BETWEEN * len(kinds)
    widths = [int(room * _WIDTHS[kind] / sum(_WIDTHS[other] for other in kinds)) for kind in kinds]
    starts = np.cumsum([left, *(width + _BETWEEN for width in widths)])
    return dict(zip(kinds, zip(starts.tolist(), widths, strict=False), strict=True))


def _draw_ranges(sheet: _Sheet, left: int, width: int, stats: Mapping[str, np.ndarray]) -> None:
    # Symmetric log: decades left and right of a centre that holds all that is smaller than the smallest decade.
    low, high = _log_range(np.maximum(np.abs(stats["min"]), np.abs(stats["max"])))
    middle, half = left + width / 2, width / 2 - 4

    def place(value: float) -> float:
        decades = 0.0 if value == 0 else max(math.log10(abs(value)) - low, 0.0)
        return middle + math.copysign(half * min(decades / (high - low), 1.0), value)

    sheet.head(left, "range (log)" if width > _ROOMY else "range")
    sheet.axis(place(-(10.0**high)), f"-1e{high}", anchor="la")
    sheet.axis(place(10.0**high), f"1e{high}", anchor="ra")
    sheet.axis(middle, f"<1e{low}" if width > _ROOMY else "")
    for index, mean in enumerate(stats["mean"]):
        if np.isfinite(stats["norm"][index]):
            std = stats["std"][index]
            # From wide to narrow, each on top of the one before.
            sheet.bar(index, place(stats["min"][index]), place(stats["max"][index]), PALE_BLUE)
            sheet.bar(index, place(mean - std), place(mean + std), BLUE)
            sheet.bar(index, place(mean) - STROKE // 2, place(mean) + STROKE // 2, INK)


def _draw_norms(sheet: _Sheet, left: int, width: int, norms: np.ndarray) -> None:
    low, high = _log_range(norms)
    sheet.head(left, "norm")
    sheet.axis(left, f"1e{low}" if width > _ROOMY // 2 else "", anchor="la")
    sheet.axis(left + width, f"1e{high}", anchor="ra")
    for index, norm in enumerate(norms):
        # At least a hundredth: a small norm differs from none.
        share = np.clip((math.log10(norm) - low) / (high - low), 0.01, 1) if np.isfinite(norm) and norm > 0 else 0.0
        colour = MISSING if np.isnan(norm) else BLUE if norm > 0 else ZERO
        sheet.bar(index, left, left + max(width * float(share), STROKE), colour)


def _draw_shares(
    sheet: _Sheet, left: int, width: int, head: str, shares: np.ndarray, colour: Colour, *, least: int
) -> None:
    sheet.head(left, head)
    sheet.axis(left, "0", anchor="la")
    sheet.axis(left + width, "1", anchor="ra")
    for index in np.flatnonzero(shares > 0):
        sheet.bar(index, left, left + max(width * shares[index], least), colour)


def _draw_update_ratios(sheet: _Sheet, left: int, width: int, ratios: np.ndarray) -> None:
    # With the healthy range on the scale, also where all ratios lie far from it.
    low, high = _log_range(np.append(ratios, _HEALTHY_RATIOS))
    ends = [left + width * (math.log10(ratio) - low) / (high - low) for ratio in _HEALTHY_RATIOS]
    sheet.rectangle(ends[0], sheet.edges[0], ends[1], sheet.bottom, _HEALTHY)
    sheet.head(left, "update")
    sheet.axis(left, f"1e{low}" if width > _ROOMY // 2 else "", anchor="la")
    sheet.axis(left + width, f"1e{high}", anchor="ra")
    for index in np.flatnonzero(np.isfinite(ratios)):
        share = (math.log10(ratios[index]) - low) / (high - low) if ratios[index] > 0 else 0.0
        place = left + width * min(max(share, 0.0), 1.0)
        sheet.bar(index, place - STROKE // 2, place + STROKE // 2, BLUE if ratios[index] > 0 else ZERO)


def _draw_scale(sheet: _Sheet, top: int, low: int, high: int) -> None:
    width = CHART_WIDTH - GAP - sheet.left
    ramp = np.logspace(low, high, width)[None].repeat(TEXT_SIZE, axis=0)
    sheet.paste(_norm_colours(ramp, low, high), sheet.left, top)
    sheet.text((sheet.left - 14, top), _SCALE_NAME, anchor="ra")
    step = math.ceil((high - low) * 80 / width)
    for decade in (*range(low, high - step + 1, step), high):
        anchor = "la" if decade == low else "ra" if decade == high else "ma"
        place = sheet.left + width * (decade - low) / (high - low)
        sheet.text((place, top + TEXT_LINE), f"1e{decade}", anchor=anchor)


def _log_range(values: np.ndarray) -> tuple[int, int]:
    """Return the powers of ten between which the values lie, at least four apart."""
    # A narrower scale would make small differences look large.
    positive = values[np.isfinite(values) & (values > 0)]
    if not positive.size:
        return -4, 0
    low, high = math.floor(math.log10(positive.min())), math.ceil(math.log10(positive.max()))
    missing = max(0, 4 - (high - low))
    low, high = low - missing // 2 - missing % 2, high + missing // 2
    return max(low, high - _MOST_DECADES), high


def _norm_colours(norms: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the colour of each norm, [..., 3], on a log scale from ``low`` to ``high``, [P, E] in."""
    known = np.isfinite(norms) & (norms > 0)
    levels = ((np.log10(np.where(known, norms, 1.0)) - low) / (high - low)).clip(0, 1)
    stops = np.linspace(0, 1, len(_NORMS))
    colours = np.stack([np.interp(levels, stops, _NORMS[:, channel]) for channel in range(3)], axis=-1)
    for mask, colour in ((np.isnan(norms), MISSING), (norms == 0, ZERO), (np.isinf(norms), BROKEN)):
        colours[mask] = colour
    drawn: np.ndarray = colours.round().astype(np.uint8)
    return drawn
