"""Confusion matrices of several groups as one picture: the groups below each other, over the same columns."""

from collections.abc import Sequence

import numpy as np

from .confusion_matrix import _draw
from .fonts import shown_names
from .matrix_sheet import MatrixSheet
from .theme import INK

_CELL_WIDTH = 76


def draw_confusion_by_group(
    counts: np.ndarray, names: Sequence[str], groups: Sequence[str], axis: str, title: Sequence[str]
) -> np.ndarray:
    """Draw the matrices of several groups of samples.

    Args:
        counts: [G, C, C], integers: by group, true and predicted class.
        names: of the C classes.
        groups: names of the G groups.
        axis: what the groups are.
        title: lines above.

    Returns:
        [H, W, 3], uint8, RGB: a row for each group and true class, with counts and shares of the row.
    """
    rows, names, groups = counts.reshape(-1, counts.shape[2]), shown_names(names), shown_names(groups)
    labels = [f"{group}: {name}" for group in groups for name in names]
    sheet = MatrixSheet((labels, names), (f"{axis}: true", "predicted"), title, cell_width=_CELL_WIDTH)
    drawn = _draw(sheet, rows, rows.sum(axis=1, keepdims=True), "true")
    for group in range(1, len(groups)):
        top = sheet.top + group * len(names) * sheet.cell[1]
        drawn[top - 1 : top + 1, sheet.left : sheet.right] = INK
    return drawn
