"""The true target of a sample without a prediction, as text, map or boxes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..canvas.grid import list_names
from ..canvas.picture_style import PictureStyle
from .boxes import true_boxes
from .class_maps import true_map
from .decided import NO_CLASS, class_number, class_numbers, says_yes
from .numbers import true_line, true_number_map
from .sample_text import Verdict


def show_truth(
    picture: np.ndarray,
    shape: Sequence[int],
    target: Any,
    *,
    task: str | None,
    style: PictureStyle,
    width: int,
) -> Verdict:
    """Show a target in the way that its form asks for, see ``draw_samples``.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that boxes are in pixels of.
        target: of one sample.
        task: where it is known; it tells a class from a number, and probabilities from labels.
        style: names the classes; a target of its ``ignore_index`` does not count.
        width: of a line in pixels.
    """
    if isinstance(target, Mapping):
        return true_boxes(picture, shape, target, style) if {"boxes", "labels"} <= target.keys() else Verdict()
    values = np.asarray(target)
    if values.dtype.kind not in "biuf":
        return Verdict()
    if values.ndim >= 2:
        if task == "regression" or (task is None and has_fractions(values)):
            return true_number_map(picture, values, style)
        numbers = class_numbers(values, len(values), style.ignore_index) if task == "multiclass" else values
        return true_map(picture, numbers, style)
    return Verdict([_words(values, task, style, width)])


def has_fractions(values: np.ndarray) -> bool:
    """Whether there are numbers that are not whole."""
    return values.dtype.kind == "f" and bool((np.isfinite(values) & (values != np.rint(values))).any())


def _words(values: np.ndarray, task: str | None, style: PictureStyle, width: int) -> str:
    if task == "regression":
        return true_line(values.reshape(-1).astype(np.float64), style.ignore_index)
    if values.size == 1:
        number = values.item()
        if isinstance(number, float) and (task is None or not number.is_integer()):
            return f"true: {number:.4g}"
        return "true: ignored" if number == style.ignore_index else f"true: {style.name_of(int(number))}"
    shares = values.dtype.kind == "f" and abs(values.sum() - 1) < 0.01 and bool((values >= 0).all())
    if task == "multiclass" or (task is None and shares and has_fractions(values)):
        found = class_number(values, len(values), style.ignore_index)
        return f"true: {'no class' if found == NO_CLASS else style.name_of(found)}"
    if task == "multilabel" or ((values == 0) | (values == 1) | (values == style.ignore_index)).all():
        names = [style.name_of(index) for index in np.flatnonzero(says_yes(values)).tolist()]
        return list_names("true", names or ["no label"], width)
    return true_line(values.reshape(-1).astype(np.float64), style.ignore_index)
