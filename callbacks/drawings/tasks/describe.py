"""The truth and the prediction of a sample as one line of text each, for tables."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..canvas.picture_style import PictureStyle
from .decided import NO_CLASS, class_number, class_numbers, is_positive

_SMALLEST_SHARE = 0.0005  # of the pixels; smaller ones would read 0.0%


def describe_target(task: str, output: Any, target: Any, style: PictureStyle) -> str:
    """Return the truth of a sample: a class, labels, numbers, boxes by class, or classes by their share of the pixels.

    Args:
        task: see ``find_task``.
        output: of the sample; its shape tells how many classes there are.
        target: of the sample.
        style: names the classes; a target of its ``ignore_index`` is ``ignored``.

    Example:
        >>> style = PictureStyle(class_names=["cat", "dog"])
        >>> describe_target("multiclass", np.array([2.0, -1.0]), np.array(1), style)
        'dog'
        >>> describe_target("binary", np.zeros((2, 2)), np.array([[0, 1], [0, 0]]), style)
        'cat 75.0%; dog 25.0%'
    """
    if task == "detection":
        return _boxes(target["labels"], style)
    output, target = np.asarray(output), np.asarray(target)
    if task == "regression":
        return _numbers(target)
    if output.ndim < 2:
        if task == "multilabel":
            return _labels(is_positive(target) & (target != style.ignore_index), style)
        return _class(class_number(target, output.size, style.ignore_index), style)
    if task == "multilabel":
        return _label_shares(is_positive(target), style)
    if task == "binary":
        plane = target.reshape(target.shape[-2:])
        return _shares(plane[plane != style.ignore_index] > 0.5, 2, style)
    classes = class_numbers(target, len(output), style.ignore_index)
    return _shares(classes[classes != style.ignore_index], len(output), style)


def describe_output(task: str, output: Any, style: PictureStyle) -> str:
    """Return the prediction of a sample in the form of ``describe_target``; ``NaN`` where it is not a number.

    Args:
        task: see ``find_task``.
        output: logits, numbers, or a dict of boxes with ``labels``.
        style: names the classes.
    """
    if task == "detection":
        return _boxes(output["labels"], style)
    output = np.asarray(output).astype(np.float64)
    if np.isnan(output).any():
        return "NaN"
    if task == "regression":
        return _numbers(output)
    if output.ndim < 2:
        if task == "multilabel":
            return _labels(output > 0, style)
        return _class(int(output.reshape(-1)[0] > 0) if output.size == 1 else int(output.argmax()), style)
    if task == "multilabel":
        return _label_shares(output > 0, style)
    if task == "binary":
        return _shares(output.reshape(-1) > 0, 2, style)
    return _shares(output.argmax(axis=0), len(output), style)


def _class(number: int, style: PictureStyle) -> str:
    if number == NO_CLASS:
        return "no class"
    return "ignored" if number == style.ignore_index else style.name_of(number)


def _labels(present: np.ndarray, style: PictureStyle) -> str:
    return _join(style.name_of(index) for index in np.flatnonzero(present).tolist())


def _numbers(values: np.ndarray) -> str:
    if values.ndim > 1 and values.size > 1:  # a map
        return f"mean {values.mean():.6g}"
    # Nine digits give every float32 back.
    return _join(f"{value:.9g}" for value in values.reshape(-1).tolist())


def _boxes(labels: Any, style: PictureStyle) -> str:
    numbers, counts = np.unique(np.asarray(labels).reshape(-1), return_counts=True)
    return _join(f"{count} x {style.name_of(int(number))}" for number, count in zip(numbers, counts, strict=True))


def _shares(classes: np.ndarray, count: int, style: PictureStyle) -> str:
    """Describe the classes of pixels by their share, the largest first."""
    known = classes[(classes >= 0) & (classes < count)].astype(np.int64)
    return _by_share(np.bincount(known.reshape(-1), minlength=count) / max(1, known.size), style)


def _label_shares(present: np.ndarray, style: PictureStyle) -> str:
    """Describe labels, [C, H, W], by the share of the pixels that have each."""
    return _by_share(present.reshape(len(present), -1).mean(axis=1), style)


def _by_share(shares: np.ndarray, style: PictureStyle) -> str:
    order = np.argsort(-shares, kind="stable").tolist()
    return _join(f"{style.name_of(index)} {shares[index]:.1%}" for index in order if shares[index] >= _SMALLEST_SHARE)


def _join(texts: Iterable[str]) -> str:
    return "; ".join(texts)
