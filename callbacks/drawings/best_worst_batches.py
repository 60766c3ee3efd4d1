"""The picture of a best or worst batch: its samples with id, truth, prediction and loss."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .grid import GREEN, GREY, RED, Card, draw_grid
from .pictures import Channels, to_rgb


def draw_batch(
    samples: Mapping[str, Any],
    title: Sequence[str],
    *,
    class_names: Sequence[str] | None = None,
    mean: Channels = 0.0,
    std: Channels = 1.0,
) -> np.ndarray:
    """Draw the samples of one batch.

    Args:
        samples: ``image`` [N, C, H, W] or [N, H, W], ``sample_id`` (N of anything), and where they are known
            ``target``, ``output`` and ``loss`` [N]. Of a classification (see ``classes_of``) each sample shows
            truth and prediction, framed green where they agree and red where not; of anything else, id and loss.
        title: lines above the grid.
        class_names: one a class; without, classes are shown by number.
        mean: of the images' normalization.
        std: of the images' normalization.

    Returns:
        [H, W, 3], uint8, RGB.
    """
    truths, predictions = classes_of(samples.get("output"), samples.get("target"))
    cards = []
    for index, image in enumerate(samples["image"]):
        lines = [str(samples["sample_id"][index])]
        colour, marked = GREY, []
        if truths is not None and predictions is not None:
            truth, prediction = int(truths[index]), int(predictions[index])
            lines += [f"true: {_name(truth, class_names)}", f"pred: {_name(prediction, class_names)}"]
            colour, marked = (GREEN if truth == prediction else RED), [2]
        if samples.get("loss") is not None:
            loss = float(samples["loss"][index])
            lines.append(f"loss: {format_score(loss)}")
            if not math.isfinite(loss):
                colour, marked = RED, [*marked, len(lines) - 1]
        cards.append(Card(to_rgb(image, mean, std), lines, colour, marked))
    return draw_grid(cards, title)


def classes_of(
    output: np.ndarray | None, target: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return true and predicted classes, [N] each, of a classification; (None, None) of anything else.

    Args:
        output: logits, [N, C] with C >= 2 (the largest wins), or [N] or [N, 1] (positive means class 1).
        target: class numbers, [N] or [N, 1], of any type.
    """
    if output is None or target is None or target.size != len(target) or output.ndim not in (1, 2):
        return None, None
    truths = target.reshape(len(target)).astype(np.int64)
    if output.ndim == 2 and output.shape[1] > 1:
        return truths, output.argmax(axis=1)
    return truths, (output.reshape(len(output)) > 0).astype(np.int64)


def format_score(score: float) -> str:
    """Return a score in four significant digits; "NaN" and "Inf" stand out."""
    if math.isnan(score):
        return "NaN"
    if math.isinf(score):
        return "Inf" if score > 0 else "-Inf"
    return f"{score:.4g}"


def _name(index: int, class_names: Sequence[str] | None) -> str:
    if class_names is None or not 0 <= index < len(class_names):
        return str(index)
    return str(class_names[index])
