"""``SampleText``: the lines, panels and legend that describe one sample on its card."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..canvas.theme import Colour


@dataclass(frozen=True)
class SampleText:
    """What a task adds to a card, beside id, caption and loss.

    Attributes:
        lines: of text.
        right: whether the prediction is right as a whole; None where this does not apply.
        marked: indices of the lines in the frame's colour.
        panels: pictures [h, w, 3], the image among them; None: the image alone.
        legend: name, colour and weight of what the panels show.
        panel_names: what they are, where that does not explain itself.
    """

    lines: Sequence[str] = ()
    right: bool | None = None
    marked: Sequence[int] = ()
    panels: Sequence[np.ndarray] | None = None
    legend: Sequence[tuple[str, Colour, float]] = ()
    panel_names: str = ""
