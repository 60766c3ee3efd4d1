"""``SampleText``: the lines, panels and legend that describe one sample on its card."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..canvas.legend import Entry


@dataclass(frozen=True)
class SampleText:
    """What a task adds to a card, beside loss, caption and id.

    Attributes:
        lines: of text.
        right: whether the prediction is right as a whole, which has a tick or a cross; None where this does not apply.
        marked: indices of the lines in the frame's colour.
        panels: pictures [h, w, 3], the image among them; None: the image alone.
        legend: what the panels show, each entry with its weight.
        panel_names: what they are, where that does not explain itself.
    """

    lines: Sequence[str] = ()
    right: bool | None = None
    marked: Sequence[int] = ()
    panels: Sequence[np.ndarray] | None = None
    legend: Sequence[tuple[Entry, float]] = ()
    panel_names: str = ""
