"""Truth and prediction of a segmentation, as panels beside the image."""

import math
from collections.abc import Sequence

import numpy as np

from .grid import Colour
from .palette import FALSE, HIT, IGNORED, MISSED, class_colours
from .pictures import Shape, scale, scale_planes
from .verdict import Verdict, name_of

_OPACITY = 0.6
_RIGHT = 25  # level of the grey of pixels that are right in an error map
_MOST_LOGITS = 2**20
_LONGEST_SIDE = 400


def one_mask(picture: np.ndarray, output: np.ndarray, target: np.ndarray, ignore_index: int | None) -> Verdict:
    """Show where a binary mask hits, misses and sees what is not there.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        output: logits [H, W] or [1, H, W], positive means yes.
        target: 0 or 1, [H', W'] or [1, H', W']; the output is brought to its size.
        ignore_index: target value of pixels that do not count.
    """
    true, counts = _true_and_counted(target.reshape(target.shape[-2:]), ignore_index)
    predicted = resize_nearest(output.reshape(output.shape[-2:]) > 0, true.shape)
    outcomes = _outcomes(predicted, true, counts)
    hits, missed, false = (int(np.count_nonzero(mask)) for mask, _ in outcomes[:3])
    union = hits + missed + false
    line = f"IoU {hits / union:.2f}" if union else "IoU: no truth, no prediction"
    return Verdict([line], None, (), [picture, paint(picture, outcomes)], _outcome_legend(ignore_index))


def several_masks(
    picture: np.ndarray,
    output: np.ndarray,
    target: np.ndarray,
    class_names: Sequence[str] | None,
    ignore_index: int | None,
) -> Verdict:
    """Show where any of several overlapping masks is missed or false, and which of them is the worst.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        output: logits [C, H, W], positive means yes.
        target: 0 or 1, [C, H', W'].
        class_names: one a mask.
        ignore_index: target value of pixels that do not count.
    """
    step, true_step = _step(output.shape), _step(target.shape)
    true, counts = _true_and_counted(target[:, ::true_step, ::true_step], ignore_index)
    predicted = resize_nearest(output[:, ::step, ::step] > 0, true.shape[1:])
    hits, missed, false = (
        np.count_nonzero(mask & counts, axis=(1, 2))
        for mask in (predicted & true, true & ~predicted, predicted & ~true)
    )
    union = hits + missed + false
    occur = np.flatnonzero(union)
    lines = ["mIoU: no truth, no prediction"]
    if len(occur):
        ious = hits[occur] / union[occur]
        lines = [
            f"mIoU {ious.mean():.2f}",
            f"worst: {name_of(int(occur[ious.argmin()]), class_names)} {ious.min():.2f}",
        ]
    wrong_or_right = (predicted & true & counts, true & ~predicted & counts, predicted & ~true & counts)
    layers: list[tuple[np.ndarray, Colour]] = [
        (np.any(mask, axis=0), colour) for mask, colour in zip(wrong_or_right, (HIT, MISSED, FALSE), strict=True)
    ]
    layers.append((~np.any(counts, axis=0), IGNORED))
    panels = [picture, paint(picture, layers)]
    return Verdict(lines, None, (), panels, _outcome_legend(ignore_index))


def class_map(
    picture: np.ndarray,
    output: np.ndarray,
    target: np.ndarray,
    class_names: Sequence[str] | None,
    ignore_index: int | None,
) -> Verdict:
    """Show truth and prediction in the colours of the classes, and where they differ.

    Of large maps every n-th pixel is read, for the numbers too, so that no side is longer than 400 and no more than
    a million logits are compared.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        output: logits [C, H, W], the largest wins.
        target: class numbers, [H', W'] or [1, H', W']; what is no class does not count.
        class_names: one a class.
        ignore_index: class number of pixels that do not count.
    """
    classes = len(output)
    step = _step(output.shape)
    target = target.reshape(target.shape[-2:])
    true_step = step if target.shape == output.shape[1:] else _step((1, *target.shape))
    truth = target[::true_step, ::true_step].astype(np.int32)
    prediction = resize_nearest(_largest(output[:, ::step, ::step]), truth.shape).astype(np.int32)
    counts = (truth >= 0) & (truth < classes)
    if ignore_index is not None:
        counts &= truth != ignore_index
    truth = np.where(counts, truth, classes)
    wrong = counts & (truth != prediction)
    colours = np.concatenate([class_colours(classes), np.array([IGNORED], dtype=np.uint8)])
    shape = picture.shape[:2]
    true_colours = np.take(colours, truth, axis=0)
    panels = [picture, scale(true_colours, shape), scale(np.take(colours, prediction, axis=0), shape)]
    panels.append(_error_map(true_colours, wrong, ~counts, shape))
    lines, occur = _agreement(truth, prediction, wrong, counts, classes)
    legend = [(name_of(int(c), class_names), _colour(colours[c]), float(occur[c])) for c in np.flatnonzero(occur)]
    if not counts.all():
        legend.append(("ignored", IGNORED, 0.0))
    return Verdict(lines, None, (), panels, legend)


def paint(picture: np.ndarray, layers: Sequence[tuple[np.ndarray, Colour]]) -> np.ndarray:
    """Lay masks over a picture, each in its colour and so that the picture shines through.

    Where masks overlap their colours mix. A mask that is larger than the picture is averaged, and a pixel that it
    covers in part is coloured by more than that part, so that a thin line stays visible.

    Args:
        picture: [h, w, 3], uint8, RGB.
        layers: masks [H, W], bool, all of one size, and their colours. What is
            ``IGNORED`` is hatched.

    Returns:
        [h, w, 3], uint8, RGB.
    """
    shape = picture.shape[:2]
    layers = [(mask, colour) for mask, colour in layers if mask.any()]
    if not layers:
        return picture
    covers = scale_planes([_levels(mask) for mask, _ in layers], shape).astype(np.float32) / 255.0
    for index, (_, colour) in enumerate(layers):
        if colour == IGNORED:
            covers[:, :, index] *= _stripes(shape)
    covered = covers.sum(axis=2, keepdims=True)
    opacity = _OPACITY * np.sqrt(covered.clip(0.0, 1.0))
    mixed = covers @ np.array([colour for _, colour in layers], dtype=np.float32)
    mixed *= opacity / np.maximum(covered, 1e-6)
    drawn: np.ndarray = (picture * (1.0 - opacity) + mixed + 0.5).astype(np.uint8)
    return drawn


def _levels(mask: np.ndarray) -> np.ndarray:
    levels: np.ndarray = np.ascontiguousarray(mask).view(np.uint8) * np.uint8(255)
    return levels


def resize_nearest(mask: np.ndarray, shape: Shape) -> np.ndarray:
    """Bring the last two axes of a mask to another height and width by repeating or leaving out pixels."""
    height, width = mask.shape[-2:]
    if (height, width) == shape:
        return mask
    rows, columns = np.arange(shape[0]) * height // shape[0], np.arange(shape[1]) * width // shape[1]
    resized: np.ndarray = mask[..., rows, :][..., columns]
    return resized


def _true_and_counted(target: np.ndarray, ignore_index: int | None) -> tuple[np.ndarray, np.ndarray]:
    counts = np.ones(target.shape, dtype=bool) if ignore_index is None else target != ignore_index
    return (target == 1) & counts, counts


def _outcomes(predicted: np.ndarray, true: np.ndarray, counts: np.ndarray) -> list[tuple[np.ndarray, Colour]]:
    predicted = predicted & counts
    return [(predicted & true, HIT), (true & ~predicted, MISSED), (predicted & ~true, FALSE), (~counts, IGNORED)]


def _outcome_legend(ignore_index: int | None) -> list[tuple[str, Colour, float]]:
    legend = [("hit", HIT, 3.0), ("missed", MISSED, 2.0), ("false alarm", FALSE, 1.0)]
    return legend if ignore_index is None else [*legend, ("ignored", IGNORED, 0.0)]


def _step(shape: Sequence[int]) -> int:
    by_cost = math.ceil(math.sqrt(math.prod(shape) / _MOST_LOGITS))
    return max(1, by_cost, math.ceil(max(shape[-2:]) / _LONGEST_SIDE))


def _largest(logits: np.ndarray) -> np.ndarray:
    """Return what ``argmax`` over the first axis does, three times as fast; where one is NaN, 0."""
    logits = np.ascontiguousarray(logits)
    largest = logits.max(axis=0)
    index = np.zeros(largest.shape, dtype=np.int32)
    for number in range(len(logits) - 1, -1, -1):
        np.putmask(index, logits[number] == largest, number)
    return index


def _error_map(colours: np.ndarray, wrong: np.ndarray, ignored: np.ndarray, shape: Shape) -> np.ndarray:
    cover = scale(_levels(wrong), shape).astype(np.float32) / 255.0
    mixed = scale(colours * wrong[:, :, None], shape).astype(np.float32)
    opacity = np.sqrt(cover)[:, :, None]
    drawn = mixed / np.maximum(opacity, 1e-3) + _RIGHT * (1.0 - opacity)
    if ignored.any():
        left_out = scale(_levels(ignored), shape).astype(np.float32)[:, :, None] / 255.0
        drawn = np.where(cover[:, :, None] > 0, drawn, IGNORED[0] * left_out + _RIGHT * (1.0 - left_out))
    levels: np.ndarray = (drawn + 0.5).clip(0, 255).astype(np.uint8)
    return levels


def _agreement(
    truth: np.ndarray, prediction: np.ndarray, wrong: np.ndarray, counts: np.ndarray, classes: int
) -> tuple[list[str], np.ndarray]:
    """Return the line of accuracy and mIoU, and how often each class occurs as truth or as prediction, [C]."""
    true = np.bincount(truth[counts], minlength=classes)
    predicted = np.bincount(prediction[counts], minlength=classes)
    hits = np.bincount(truth[counts & ~wrong], minlength=classes)
    union = true + predicted - hits
    total = int(true.sum())
    if not total:
        return ["accuracy: all ignored"], union
    ious = hits[union > 0] / union[union > 0]
    return [f"accuracy {hits.sum() / total:.2f}, mIoU {ious.mean():.2f}"], union


def _stripes(shape: Shape) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    striped: np.ndarray = (rows + columns) // 3 % 2 == 0
    return striped


def _colour(values: np.ndarray) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue
