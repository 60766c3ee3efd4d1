"""The truth of a sample of which nothing is predicted yet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .boxes import true_boxes
from .class_maps import true_map
from .decided import NO_CLASS, class_number, class_numbers, says_yes
from .grid import list_names
from .numbers import true_line, true_number_map
from .verdict import Verdict, name_of


def show_truth(
    picture: np.ndarray,
    shape: Sequence[int],
    target: Any,
    *,
    task: str | None,
    class_names: Sequence[str] | None,
    ignore_index: int | None,
    width: int,
) -> Verdict:
    """Show a target in the way that its form asks for, see ``draw_samples``.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that boxes are in pixels of.
        target: of one sample.
        task: where it is known; it tells a class from a number, and probabilities from labels.
        class_names: one a class; without, classes are shown by number.
        ignore_index: target value that does not count.
        width: of a line in pixels.
    """
    if isinstance(target, Mapping):
        return true_boxes(picture, shape, target, class_names) if {"boxes", "labels"} <= target.keys() else Verdict()
    values = np.asarray(target)
    if values.dtype.kind not in "biuf":
        return Verdict()
    if values.ndim >= 2:
        if task == "regression" or (task is None and has_fractions(values)):
            return true_number_map(picture, values, ignore_index)
        numbers = class_numbers(values, len(values), ignore_index) if task == "multiclass" else values
        return true_map(picture, numbers, class_names, ignore_index)
    return Verdict([_words(values, task, class_names, ignore_index, width)])


def has_fractions(values: np.ndarray) -> bool:
    """Whether there are numbers that are not whole."""
    return values.dtype.kind == "f" and bool((np.isfinite(values) & (values != np.rint(values))).any())


def _words(
    values: np.ndarray, task: str | None, class_names: Sequence[str] | None, ignore_index: int | None, width: int
) -> str:
    if task == "regression":
        return true_line(values.reshape(-1).astype(np.float64), ignore_index)
    if values.size == 1:
        number = values.item()
        if isinstance(number, float) and (task is None or not number.is_integer()):
            return f"true: {number:.4g}"
        return "true: ignored" if number == ignore_index else f"true: {name_of(int(number), class_names)}"
    shares = values.dtype.kind == "f" and abs(values.sum() - 1) < 0.01 and bool((values >= 0).all())
    if task == "multiclass" or (task is None and shares and has_fractions(values)):
        found = class_number(values, len(values), ignore_index)
        return f"true: {'no class' if found == NO_CLASS else name_of(found, class_names)}"
    if task == "multilabel" or ((values == 0) | (values == 1) | (values == ignore_index)).all():
        names = [name_of(index, class_names) for index in np.flatnonzero(says_yes(values)).tolist()]
        return list_names("true", names or ["no label"], width)
    return true_line(values.reshape(-1).astype(np.float64), ignore_index)
