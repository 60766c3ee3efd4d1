"""Tables as text: in Markdown for TensorBoard, or with aligned columns for a console."""

import re
from collections.abc import Sequence

# TensorBoard renders Markdown and the HTML within it, so that a name such as "a|b" or "<b>" would break the table.
_ESCAPES = str.maketrans({**{letter: f"\\{letter}" for letter in "\\|`*_[]"}, "&": "&amp;", "<": "&lt;"})


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right.

    Example:
        >>> print(markdown_table(["class", "f1"], [["cat", "0.91"], ["dog", "0.88"]]))
        | class | f1 |
        | --- | ---: |
        | cat | 0.91 |
        | dog | 0.88 |
    """
    rule = ["---", *["---:"] * (len(header) - 1)]
    lines = [[escape_markdown(cell) for cell in row] for row in (header, *rows)]
    lines.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def read_markdown_table(text: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the first table that ``markdown_table`` wrote in a text; none where there is none.

    Example:
        >>> read_markdown_table(markdown_table(["class", "f1"], [["a|b <c>", "0.91"]]))
        (['class', 'f1'], [['a|b <c>', '0.91']])
    """
    lines = text.splitlines()
    rules = [at for at, line in enumerate(lines) if at and line.startswith("| ---")]
    if not rules:
        return [], []
    header = _read_cells(lines[rules[0] - 1])
    rows = []
    for line in lines[rules[0] + 1 :]:
        cells = _read_cells(line)
        if len(cells) != len(header):
            break
        rows.append(cells)
    return header, rows


def _read_cells(line: str) -> list[str]:
    if not (line.startswith("| ") and line.endswith(" |")):
        return []
    # A bar with a backslash before it is a part of its cell, and escaped backslashes come in pairs.
    cells = re.findall(r"((?:\\.|[^|\\])*)\|", line[1:])
    return [_unescaped(cell.strip()) for cell in cells]


def _unescaped(cell: str) -> str:
    return re.sub(r"\\(.)", r"\1", cell).replace("&lt;", "<").replace("&amp;", "&")


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table with columns as wide as their longest cell; all but the first are aligned to the right."""
    lines = [[" ".join(cell.split()) for cell in line] for line in (header, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(line, widths, strict=True)) for line in lines)
    )


def escape_markdown(cell: str) -> str:
    """Return text on one line that Markdown shows as it is."""
    # A line break would end the row of a table.
    return " ".join(cell.split()).translate(_ESCAPES)
