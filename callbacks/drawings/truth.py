"""The truth of a sample of which nothing is predicted yet."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .boxes import true_boxes
from .class_maps import true_map
from .grid import list_names
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
        return true_map(picture, values, class_names, ignore_index)
    return Verdict([_words(values, task, class_names, ignore_index, width)])


def _words(
    values: np.ndarray, task: str | None, class_names: Sequence[str] | None, ignore_index: int | None, width: int
) -> str:
    if values.size == 1:
        number = values.item()
        if isinstance(number, float) and (task is None or not number.is_integer()):
            return f"true: {number:.4g}"
        return "true: ignored" if number == ignore_index else f"true: {name_of(int(number), class_names)}"
    if task == "multiclass":
        return f"true: {name_of(int(values.argmax()), class_names)}"
    if ((values == 0) | (values == 1) | (values == ignore_index)).all():
        names = [name_of(index, class_names) for index in np.flatnonzero(values == 1).tolist()]
        return list_names("true", names or ["no label"], width)
    return f"true: {values.size} numbers"
