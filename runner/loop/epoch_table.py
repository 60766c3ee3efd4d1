"""The epochs of a run as a table that fits the terminal: a header, and a line per epoch."""

import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TextIO

Metrics = Mapping[str, Mapping[str, float]]
Column = tuple[str, str]  # loader and metric

_DIGITS = 7  # characters of a number
_GAP = "  "
_WIDTH_OF_FILES = 120  # nothing says how wide they may be
_DIM, _GREEN, _RESET = "\033[2m", "\033[1;32m", "\033[0m"


class EpochTable:
    """Makes the lines of the table. It begins with a header, and makes another one where the columns change.

    Where not all metrics fit, the losses come first, then those by which epochs are compared, then the others of
    validation and of training, and terms of the loss last.

    Args:
        epochs: how many the run is to have.
        best_by: the metric that the best epoch is chosen by, as ``LOADER/METRIC``; None: no epoch is marked.
        compared: all metrics by which epochs are compared.
    """

    def __init__(self, epochs: int, best_by: str | None = None, compared: Sequence[str] = ()):
        self.epochs = epochs
        self.best_by = best_by
        self.compared = [*compared] if best_by is None else [best_by, *compared]
        self._columns: list[Column] = []
        self._left_out: list[Column] = []
        self._width = 0

    def lines(
        self, epoch: int, metrics: Metrics, seconds: float, *, best: bool = False, width: int = 80, colour: bool = False
    ) -> list[str]:
        """Return the line of an epoch, after a header where it is the first one or has other columns.

        Args:
            epoch: its number.
            metrics: by loader.
            seconds: how long it took.
            best: whether no epoch so far is better.
            width: of the terminal, in characters.
            colour: whether to mark the header and the best epoch by colours too.

        Example:
            >>> table = EpochTable(10, "valid/accuracy")
            >>> metrics = {"train": {"loss": 0.31}, "valid": {"loss": 0.4, "accuracy": 0.87}}
            >>> for line in table.lines(2, metrics, 12.3, best=True):
            ...     print(line)
            * best epoch so far by valid/accuracy
                           train    valid
                            loss     loss  accuracy     time
            epoch  2/10   0.3100   0.4000    0.8700   12.3 s *
        """
        header = []
        if self._width != width or not set(_columns_of(metrics)) <= {*self._columns, *self._left_out}:
            self._choose(metrics, width)
            header = [_painted(line, _DIM, colour) for line in self._header()]
        values = [_number(metrics.get(loader, {}).get(name)) for loader, name in self._columns]
        cells = [value.rjust(size) for value, size in zip(values, self._sizes(), strict=True)]
        line = _GAP.join([self._epoch(epoch), *cells, duration(seconds).rjust(_DIGITS)])
        return [*header, _painted(f"{line} *", _GREEN, colour) if best else line]

    def _choose(self, metrics: Metrics, width: int) -> None:
        """Choose the columns: the most important ones that fit, in the order of loaders and metrics."""
        self._width = width
        found = _columns_of(metrics)
        self._columns = found
        kept = sorted(found, key=lambda column: importance(column, self.compared))
        while len(kept) > 1 and self._length() > width:
            kept.pop()
            self._columns = [column for column in found if column in kept]
        self._left_out = [column for column in found if column not in self._columns]

    def _length(self) -> int:
        return len(self._epoch(0)) + sum(len(_GAP) + size for size in self._sizes()) + len(_GAP) + _DIGITS + len(" *")

    def _sizes(self) -> list[int]:
        firsts = self._firsts()
        return [max(_DIGITS, *map(len, column if column in firsts else column[1:])) for column in self._columns]

    def _firsts(self) -> set[Column]:
        """Return the first column of each loader, which the loader's name stands above."""
        return {next(group) for _, group in groupby(self._columns, key=lambda column: column[0])}

    def _epoch(self, epoch: int) -> str:
        return f"epoch {epoch:>{len(str(self.epochs))}}/{self.epochs}"

    def _header(self) -> list[str]:
        notes = [] if self.best_by is None else [f"* best epoch so far by {self.best_by}"]
        if self._left_out:
            notes.append(f"{len(self._left_out)} more metrics are in metrics.csv and TensorBoard")
        firsts = self._firsts()
        rows = [
            [column[0] if column in firsts else "" for column in self._columns],
            [name for _, name in self._columns],
        ]
        cells = [[text.rjust(size) for text, size in zip(row, self._sizes(), strict=True)] for row in rows]
        above, below = (_GAP.join([" " * len(self._epoch(0)), *row]) for row in cells)
        return [*notes, above.rstrip(), f"{below}{_GAP}{'time'.rjust(_DIGITS)}"]


def importance(column: Column, compared: Sequence[str]) -> tuple[bool, ...]:
    """Return what orders the metrics by importance, the most important first."""
    loader, name = column
    rank = (name == "loss", f"{loader}/{name}" in compared, not name.startswith("loss"), not loader.startswith("train"))
    return tuple(not one for one in rank)


def duration(seconds: float) -> str:
    """Return a time in at most seven characters.

    Example:
        >>> duration(9.87), duration(125), duration(7325)
        ('9.9 s', '2:05', '2:02:05')
    """
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def terminal_width(stream: TextIO) -> int:
    """Return how many characters a line may have: those of the terminal, or of a file where there is none."""
    return shutil.get_terminal_size((_WIDTH_OF_FILES if not stream.isatty() else 80, 24)).columns


def shows_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours, and the user has not set ``NO_COLOR``."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _columns_of(metrics: Metrics) -> list[Column]:
    return [(loader, name) for loader, of in metrics.items() for name in of]


def _number(value: float | None) -> str:
    """Return a number with as many of four decimals as fit; a tiny or huge one with an exponent."""
    if value is None:
        return ""
    if value == 0 or abs(value) >= 1e-3:
        for decimals in (4, 3, 2, 1, 0):
            if len(text := f"{value:.{decimals}f}") <= _DIGITS:
                return text
    return f"{value:.1e}"


def _painted(line: str, code: str, colour: bool) -> str:
    return f"{code}{line}{_RESET}" if colour else line
