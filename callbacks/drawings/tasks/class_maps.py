"""True and predicted classes of pixels, drawn as maps beside the image."""

import cv2
import numpy as np

from ...measures.tile_shape import Shape
from ..canvas.captions import write
from ..canvas.fonts import line_length
from ..canvas.images import scale
from ..canvas.legend import Entry
from ..canvas.palette import class_colours
from ..canvas.picture_style import PictureStyle
from ..canvas.theme import IGNORED, NAN, NOTE_SIZE, PAPER
from .decided import class_numbers, is_positive
from .masks import levels, list_nan
from .sample_text import SampleText
from .subsample import resize_nearest, subsample_alike, subsample_step

_LEAST_SHARE = 0.01  # of a map that a class covers, to be numbered there
_DIGIT = 18  # height of the ground that a number stands on
_PANELS = "above image and truth; below prediction, and errors in the true colour"
_RIGHT = 25  # grey of pixels without an error in an error map: nearly black, so that errors stand out


def draw_class_maps(picture: np.ndarray, output: np.ndarray, target: np.ndarray, style: PictureStyle) -> SampleText:
    """Draw the true and the predicted classes in their colours and with their numbers, and the errors.

    A pixel with a NaN among its logits is wrong, and black. Large maps are subsampled, see ``subsample_alike``.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        output: logits [C, H, W], the largest wins.
        target: class numbers, [H', W'] or [1, H', W'], or shares of each, [C, H', W']. Others do not
            count.
        style: names the classes; pixels of its ``ignore_index`` do not count.
    """
    classes, ignore_index = len(output), style.ignore_index
    read, read_target = subsample_alike(output, target)
    read_target = class_numbers(read_target, classes, ignore_index)
    prediction = _winning_class(read)
    # The target has a step of its own: what is shown of it keeps its detail where the output is coarser.
    step = subsample_step(target.shape[-2:])
    shown, _ = _mark_uncounted(class_numbers(target[..., ::step, ::step], classes, ignore_index), classes, ignore_index)
    colours, shape = _colours_of(classes), picture.shape[:2]
    panels = [picture, *(_colour_classes(numbers, colours, shape) for numbers in (shown, prediction))]
    true, counts = _mark_uncounted(read_target, classes, ignore_index)
    prediction = resize_nearest(prediction, true.shape)
    wrong = counts & (true != prediction)
    panels.append(_error_map(np.take(colours, true, axis=0), wrong, ~counts, shape))
    lines, occur = _score_agreement(true, prediction, wrong, counts, classes)
    # Of a NaN that is not counted neither the legend nor the share has a part.
    is_nan = (prediction == classes + 1) & counts
    legend = _legend_entries(occur, counts, style) + ([(Entry("NaN", NAN), 0.0)] if is_nan.any() else [])
    lines += list_nan(is_nan, counts)
    return SampleText(lines, None, (), panels, legend, _PANELS)


def draw_true_map(picture: np.ndarray, target: np.ndarray, style: PictureStyle) -> SampleText:
    """Draw the true classes alone.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        target: class numbers, [H, W] or [1, H, W]; or 0 and 1, [C, H, W], where the last one wins if several overlap.
        style: names the classes; pixels of its ``ignore_index`` do not count.
    """
    ignore_index, step = style.ignore_index, subsample_step(target.shape)
    target = target[..., ::step, ::step]
    if target.ndim == 3 and len(target) > 1:
        # Overlapping masks have no class numbers: each gets its index, and the maximum lets the last one win. Without
        # any, -1 is left, which counts as no class.
        target = np.where(is_positive(target), np.arange(1, len(target) + 1).reshape(-1, 1, 1), 0).max(axis=0) - 1
        ignore_index = None
    # The number of classes is not known without an output: the largest class that occurs decides.
    numbers = np.nan_to_num(target.reshape(target.shape[-2:]))
    classes = max(1, int(np.max(numbers, where=numbers != ignore_index, initial=0)) + 1)
    true, counts = _mark_uncounted(numbers, classes, ignore_index)
    occur = np.bincount(true[counts], minlength=classes)
    panel = _colour_classes(true, _colours_of(classes), picture.shape[:2])
    return SampleText((), None, (), [picture, panel], _legend_entries(occur, counts, style), "image, truth")


def _mark_uncounted(target: np.ndarray, classes: int, ignore_index: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return class numbers, with ``classes`` where a pixel does not count, and the mask of those that count."""
    counts = (target >= 0) & (target < classes)
    if ignore_index is not None:
        counts &= target != ignore_index
    # ``classes`` is the row of IGNORED in the table of colours, so that one lookup paints the whole map.
    return np.where(counts, target, classes).astype(np.int32), counts


def _colours_of(classes: int) -> np.ndarray:
    """Return the colours of the classes, of a pixel that does not count, and of a NaN, [C + 2, 3]."""
    return np.concatenate([class_colours(classes), np.array([IGNORED, NAN], dtype=np.uint8)])


def _colour_classes(numbers: np.ndarray, colours: np.ndarray, shape: Shape) -> np.ndarray:
    """Return class numbers [H, W] as a panel, each class with its number where it is widest."""
    panel = np.ascontiguousarray(scale(np.take(colours, numbers, axis=0), shape))
    seen = resize_nearest(numbers, shape)
    for number in np.flatnonzero(np.bincount(seen.reshape(-1)) > _LEAST_SHARE * seen.size).tolist():
        if number < len(colours) - 2:
            _write_number(panel, str(number), seen == number)
    return panel


def _write_number(panel: np.ndarray, text: str, mask: np.ndarray) -> None:
    # With a border of zeros, so that the edges of the panel are edges of the class too.
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    width = int(line_length(text, NOTE_SIZE)) + 4
    if depth[row, column] < 0.75 * width:  # the number would cover its class
        return
    top, left = int(row) - _DIGIT // 2, int(column) - width // 2
    ground = panel[max(top, 0) : top + _DIGIT, max(left, 0) : left + width]
    ground[:] = PAPER
    write(ground, (2, -4), text, size=NOTE_SIZE)


def _legend_entries(occur: np.ndarray, counts: np.ndarray, style: PictureStyle) -> list[tuple[Entry, float]]:
    """Return the entries of the classes that occur, and of the pixels that do not count."""
    legend = [
        (Entry(_name_number(number, style), (colour[0], colour[1], colour[2])), float(occur[number]))
        for number, colour in enumerate(class_colours(len(occur)).tolist())
        if occur[number]
    ]
    return legend if counts.all() else [*legend, (Entry("ignored", IGNORED), 0.0)]


def _name_number(number: int, style: PictureStyle) -> str:
    name = style.name_of(number)
    return name if name == str(number) else f"{number} {name}"


def _winning_class(logits: np.ndarray) -> np.ndarray:
    """Return the class of the largest logit, [C, H, W]; C + 1 where one is NaN."""
    # Three times as fast as argmax. From the last class to the first, so that the first of equals wins; NaN equals
    # nothing, so that its pixels keep the number they begin with.
    logits = np.ascontiguousarray(logits)
    largest = logits.max(axis=0)
    index = np.full(largest.shape, len(logits) + 1, dtype=np.int32)
    for number in range(len(logits) - 1, -1, -1):
        np.putmask(index, logits[number] == largest, number)
    return index


def _error_map(colours: np.ndarray, wrong: np.ndarray, ignored: np.ndarray, shape: Shape) -> np.ndarray:
    cover = scale(levels(wrong), shape).astype(np.float32) / 255.0
    # Scaled by themselves and divided by their cover, so that the colour of a thin error stays that of its class.
    mixed = scale(colours * wrong[:, :, None], shape).astype(np.float32)
    # The square root keeps an error visible that covers a small part of a pixel of the picture.
    opacity = np.sqrt(cover)[:, :, None]
    drawn = mixed / np.maximum(opacity, 1e-3) + _RIGHT * (1.0 - opacity)
    if ignored.any():
        left_out = scale(levels(ignored), shape).astype(np.float32)[:, :, None] / 255.0
        drawn = np.where(cover[:, :, None] > 0, drawn, IGNORED[0] * left_out + _RIGHT * (1.0 - left_out))
    rounded: np.ndarray = (drawn + 0.5).clip(0, 255).astype(np.uint8)
    return rounded


def _score_agreement(
    target: np.ndarray, prediction: np.ndarray, wrong: np.ndarray, counts: np.ndarray, classes: int
) -> tuple[list[str], np.ndarray]:
    """Return a line with accuracy and mIoU, and how many pixels are of each class or predicted so, [C]."""
    true = np.bincount(target[counts], minlength=classes)
    # NaN has a number of its own after the classes, and is cut off here.
    predicted = np.bincount(prediction[counts], minlength=classes)[:classes]
    hits = np.bincount(target[counts & ~wrong], minlength=classes)
    union = true + predicted - hits
    total = int(true.sum())
    if not total:
        return ["accuracy: all ignored"], union
    # Classes that neither occur nor are predicted have no IoU: as 0 or as 1 they would move the mean.
    ious = hits[union > 0] / union[union > 0]
    return [f"acc {hits.sum() / total:.2f}, mIoU {ious.mean():.2f}"], union
