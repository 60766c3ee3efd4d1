"""Hits, misses and false alarms of masks, laid over the image."""

import math
from collections.abc import Sequence

import numpy as np

from .grid import Colour
from .palette import FALSE, HIT, IGNORED, MISSED
from .pictures import Shape, scale_planes
from .verdict import Verdict, name_of

_OPACITY = 0.6
_MOST_LOGITS = 2**20
_LONGEST_SIDE = 300


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

    Of large masks every n-th pixel is read, for the numbers too, so that no side is longer than 300 and no more than
    a million pixels are compared.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        output: logits [C, H, W], positive means yes.
        target: 0 or 1, [C, H', W'].
        class_names: one a mask.
        ignore_index: target value of pixels that do not count.
    """
    step, true_step = reading_step(output.shape), reading_step(target.shape)
    read = at_pixels(target, output.shape[1:], step) if max(step, true_step) > 1 else target
    true, counts = _true_and_counted(read, ignore_index)
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
    covers = scale_planes([levels(mask) for mask, _ in layers], shape).astype(np.float32) / 255.0
    for index, (_, colour) in enumerate(layers):
        if colour == IGNORED:
            covers[:, :, index] *= _stripes(shape)
    covered = covers.sum(axis=2, keepdims=True)
    opacity = _OPACITY * np.sqrt(covered.clip(0.0, 1.0))
    mixed = covers @ np.array([colour for _, colour in layers], dtype=np.float32)
    mixed *= opacity / np.maximum(covered, 1e-6)
    drawn: np.ndarray = (picture * (1.0 - opacity) + mixed + 0.5).astype(np.uint8)
    return drawn


def levels(mask: np.ndarray) -> np.ndarray:
    """Return 0 and 255, uint8, of a mask."""
    signed: np.ndarray = np.negative(np.ascontiguousarray(mask).view(np.int8))
    return signed.view(np.uint8)


def resize_nearest(mask: np.ndarray, shape: Shape) -> np.ndarray:
    """Bring the last two axes of a mask to another height and width by repeating or leaving out pixels."""
    height, width = mask.shape[-2:]
    if (height, width) == shape:
        return mask
    rows, columns = np.arange(shape[0]) * height // shape[0], np.arange(shape[1]) * width // shape[1]
    resized: np.ndarray = mask[..., rows, :][..., columns]
    return resized


def at_pixels(target: np.ndarray, shape: Sequence[int], step: int) -> np.ndarray:
    """Return a target [..., H', W'] where every n-th pixel of an output of height and width ``shape`` lies."""
    if target.shape[-2:] == tuple(shape):
        return target[..., ::step, ::step]
    rows, columns = (
        ((np.arange(0, side, step) + 0.5) * true_side / side).astype(np.intp)
        for side, true_side in zip(shape, target.shape[-2:], strict=True)
    )
    read: np.ndarray = target[..., rows, :][..., columns]
    return read


def _true_and_counted(target: np.ndarray, ignore_index: int | None) -> tuple[np.ndarray, np.ndarray]:
    counts = np.ones(target.shape, dtype=bool) if ignore_index is None else target != ignore_index
    return (target == 1) & counts, counts


def _outcomes(predicted: np.ndarray, true: np.ndarray, counts: np.ndarray) -> list[tuple[np.ndarray, Colour]]:
    predicted = predicted & counts
    return [(predicted & true, HIT), (true & ~predicted, MISSED), (predicted & ~true, FALSE), (~counts, IGNORED)]


def _outcome_legend(ignore_index: int | None) -> list[tuple[str, Colour, float]]:
    legend = [("hit", HIT, 3.0), ("missed", MISSED, 2.0), ("false alarm", FALSE, 1.0)]
    return legend if ignore_index is None else [*legend, ("ignored", IGNORED, 0.0)]


def reading_step(shape: Sequence[int]) -> int:
    """Return n, where every n-th pixel of a map [C, H, W] is read in both directions."""
    by_cost = math.ceil(math.sqrt(math.prod(shape) / _MOST_LOGITS))
    return max(1, by_cost, math.ceil(max(shape[-2:]) / _LONGEST_SIDE))


def _stripes(shape: Shape) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    striped: np.ndarray = (rows + columns) // 3 % 2 == 0
    return striped
