"""The true target of a sample alone, where there is no prediction: as text, map or boxes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..canvas.captions import list_names
from ..canvas.picture_style import PictureStyle
from .boxes import draw_true_boxes
from .class_maps import draw_true_map
from .decided import NO_CLASS, class_number, class_numbers, is_positive
from .numbers import draw_true_number_map, list_true_numbers
from .sample_text import SampleText


def show_true_target(
    picture: np.ndarray,
    shape: Sequence[int],
    target: Any,
    *,
    task: str | None,
    style: PictureStyle,
    width: int,
    named: bool = True,
) -> SampleText:
    """Show a target in the way that its form asks for, see ``draw_samples``.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that boxes are in pixels of.
        target: of one sample.
        task: where it is known; it distinguishes a class from a number, and probabilities from labels.
        style: names the classes; a target of its ``ignore_index`` does not count.
        width: of a line in pixels.
        named: whether boxes have the names of their classes beside them.
    """
    if isinstance(target, Mapping):
        if not {"boxes", "labels"} <= target.keys():
            return SampleText()
        return draw_true_boxes(picture, shape, target, style, named)
    values = np.asarray(target)
    # Strings and objects have no picture.
    if values.dtype.kind not in "biuf":
        return SampleText()
    if values.ndim >= 2:
        if task == "regression" or (task is None and has_fractions(values)):
            return draw_true_number_map(picture, values, style)
        # Without a task [C, H, W] may be overlapping masks: only a named one makes class numbers of it.
        numbers = class_numbers(values, len(values), style.ignore_index) if task == "multiclass" else values
        return draw_true_map(picture, numbers, style)
    return SampleText([_describe_values(values, task, style, width)])


def has_fractions(values: np.ndarray) -> bool:
    """Whether there are numbers that are not whole."""
    return values.dtype.kind == "f" and bool((np.isfinite(values) & (values != np.rint(values))).any())


def _describe_values(values: np.ndarray, task: str | None, style: PictureStyle, width: int) -> str:
    if task == "regression":
        return list_true_numbers(values.reshape(-1).astype(np.float64), style.ignore_index, width)
    if values.size == 1:
        number = values.item()
        # A float without a task is a regression, even a whole one; of a classification it may be a soft label.
        if isinstance(number, float) and (task is None or not number.is_integer()):
            return f"true: {number:.4g}"
        return "true: ignored" if number == style.ignore_index else f"true: {style.name_of(int(number))}"
    # Whole numbers that add up to 1 are one-hot or labels with a single yes, which look alike: labels are assumed.
    shares = values.dtype.kind == "f" and abs(values.sum() - 1) < 0.01 and bool((values >= 0).all())
    if task == "multiclass" or (task is None and shares and has_fractions(values)):
        found = class_number(values, len(values), style.ignore_index)
        return f"true: {'no class' if found == NO_CLASS else style.name_of(found)}"
    if task == "multilabel" or ((values == 0) | (values == 1) | (values == style.ignore_index)).all():
        names = [style.name_of(index) for index in np.flatnonzero(is_positive(values)).tolist()]
        return list_names("true", names or ["no label"], width)
    return list_true_numbers(values.reshape(-1).astype(np.float64), style.ignore_index, width)
