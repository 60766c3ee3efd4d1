"""Hits, misses and false alarms of masks, drawn over the image."""

from collections.abc import Sequence

import numpy as np

from ...measures.tile_shape import Shape
from ..canvas.images import scale_planes
from ..canvas.legend import Entry
from ..canvas.picture_style import PictureStyle
from ..canvas.theme import FALSE, HIT, IGNORED, MISSED, NAN, PAPER, Colour
from .decided import is_positive
from .sample_text import SampleText
from .subsample import resize_nearest, subsample_alike

_OPACITY = 0.6  # of a colour, so that the image shows through
_STRIPE = 6  # width of a stripe: 3 pixels in a card of TensorBoard
_ENTRIES = (
    Entry("hit", HIT),
    Entry("missed (striped)", MISSED, "striped"),
    Entry("false alarm", FALSE),
    Entry("ignored", IGNORED),
    Entry("NaN", NAN),
)


def draw_mask(picture: np.ndarray, output: np.ndarray, target: np.ndarray, style: PictureStyle) -> SampleText:
    """Show where a binary mask hits, misses and sees what is not there. A logit that is NaN is wrong, and black.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        output: logits [H, W] or [1, H, W], positive means yes.
        target: 0 or 1, [H', W'] or [1, H', W']; the output is brought to its size.
        style: pixels of its ``ignore_index`` do not count.
    """
    true, counts = _true_and_counted(target.reshape(target.shape[-2:]), style.ignore_index)
    predicted, is_nan = _predicted_masks(output.reshape(output.shape[-2:]), true)
    outcomes = _compare_masks(predicted, true, counts)
    hits, missed, false = (int(np.count_nonzero(mask)) for mask in outcomes)
    union = hits + missed + false
    # Without a true or predicted pixel the IoU is 0 / 0.
    line = f"IoU {hits / union:.2f}" if union else "IoU: no truth, no prediction"
    panels = [picture, paint(picture, _layer_masks(outcomes, is_nan, counts))]
    legend = _outcome_legend(outcomes, is_nan & counts, counts)
    return SampleText([line, *list_nan(is_nan, counts)], None, (), panels, legend)


def draw_masks(picture: np.ndarray, output: np.ndarray, target: np.ndarray, style: PictureStyle) -> SampleText:
    """Show where any of several overlapping masks is missed or false, and which of them is the worst.

    A logit that is NaN is wrong, and black. Large masks are subsampled, see ``subsample_alike``.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        output: logits [C, H, W], positive means yes.
        target: 0 or 1, [C, H', W'].
        style: names the masks; pixels of its ``ignore_index`` do not count.
    """
    read, read_target = subsample_alike(output, target)
    true, counts = _true_and_counted(read_target, style.ignore_index)
    predicted, is_nan = _predicted_masks(read, true)
    outcomes = _compare_masks(predicted, true, counts)
    hits, missed, false = (np.count_nonzero(mask, axis=(1, 2)) for mask in outcomes)
    union = hits + missed + false
    occur = np.flatnonzero(union)
    lines = ["mIoU: no truth, no prediction"]
    if len(occur):
        ious = hits[occur] / union[occur]
        lines = [
            f"mIoU {ious.mean():.2f}",
            f"worst {style.name_of(int(occur[ious.argmin()]))} {ious.min():.2f}",
        ]
    lines += list_nan(is_nan, counts)
    flat = [np.any(mask, axis=0) for mask in (*outcomes, is_nan & counts, counts)]
    panels = [picture, paint(picture, _layer_masks(flat[:3], *flat[3:]))]
    return SampleText(lines, None, (), panels, _outcome_legend(flat[:3], *flat[3:]))


def paint(picture: np.ndarray, layers: Sequence[tuple[np.ndarray, Colour]]) -> np.ndarray:
    """Lay masks over a picture, each in its colour and so that the picture shines through.

    Where masks overlap their colours mix. A mask that is larger than the picture is averaged, and a pixel that it
    covers in part is coloured by more than that part, so that a thin line stays visible.

    Args:
        picture: [h, w, 3], uint8, RGB.
        layers: masks [H, W], bool, all of one size, and their colours. What is ``MISSED`` has white stripes, as red
            roofs are as red as it is, ``IGNORED`` is hatched, and nothing shines through ``NAN``.

    Returns:
        [h, w, 3], uint8, RGB.
    """
    shape = picture.shape[:2]
    layers = [(mask, colour) for mask, colour in layers if mask.any()]
    if not layers:
        return picture
    # Masks are scaled, not the coloured picture: that would blur the image too.
    covers = scale_planes([levels(mask) for mask, _ in layers], shape).astype(np.float32) / 255.0
    colours, stripes = [colour for _, colour in layers], _stripes(shape)
    for index, colour in enumerate(list(colours)):
        if colour == MISSED:
            covers = np.dstack([covers, covers[:, :, index] * ~stripes])
            colours.append(PAPER)
        if colour in (MISSED, IGNORED):
            covers[:, :, index] *= stripes
    covered = covers.sum(axis=2, keepdims=True)
    # The square root keeps a thin line visible that covers a small part of a pixel.
    opacity = _OPACITY * np.sqrt(covered.clip(0.0, 1.0))
    # NaN is opaque, so that its black cannot be taken for a dark part of the image.
    for index, colour in enumerate(colours):
        if colour == NAN:
            opacity = np.maximum(opacity, covers[:, :, index : index + 1])
    # The mean of the colours by their cover, times the opacity of the pixel.
    mixed = covers @ np.array(colours, dtype=np.float32)
    mixed *= opacity / np.maximum(covered, 1e-6)
    drawn: np.ndarray = (picture * (1.0 - opacity) + mixed + 0.5).astype(np.uint8)
    return drawn


def levels(mask: np.ndarray) -> np.ndarray:
    """Return 0 and 255, uint8, of a mask."""
    # -1 as int8 has the bits of 255: one pass without a multiplication.
    signed: np.ndarray = np.negative(np.ascontiguousarray(mask).view(np.int8))
    return signed.view(np.uint8)


def _true_and_counted(target: np.ndarray, ignore_index: int | None) -> tuple[np.ndarray, np.ndarray]:
    counts = np.ones(target.shape, dtype=bool) if ignore_index is None else target != ignore_index
    return is_positive(target) & counts, counts


def _predicted_masks(logits: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the predicted masks in the size of the truth, and where the logits are NaN."""
    # NaN predicts the contrary of the truth, so that it is always wrong.
    predicted, is_nan = (resize_nearest(mask, true.shape[-2:]) for mask in (logits > 0, np.isnan(logits)))
    return np.where(is_nan, ~true, predicted), is_nan


def _compare_masks(predicted: np.ndarray, true: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Return the masks of hits, of what is missed, and of false alarms."""
    return [mask & counts for mask in (predicted & true, true & ~predicted, predicted & ~true)]


def _layer_masks(
    outcomes: Sequence[np.ndarray], is_nan: np.ndarray, counts: np.ndarray
) -> list[tuple[np.ndarray, Colour]]:
    # A NaN has been counted as wrong; its pixel is drawn as NaN alone.
    masks = [*(mask & ~is_nan for mask in outcomes), is_nan & counts, ~counts]
    return list(zip(masks, (HIT, MISSED, FALSE, NAN, IGNORED), strict=True))


def _outcome_legend(
    outcomes: Sequence[np.ndarray], is_nan: np.ndarray, counts: np.ndarray
) -> list[tuple[Entry, float]]:
    """Return the entries of what occurs."""
    # Weights so far apart that the order stays the same, however many samples add up.
    masks = [*outcomes, ~counts, is_nan]
    return [(entry, 1e3**-index) for index, entry in enumerate(_ENTRIES) if masks[index].any()]


def list_nan(is_nan: np.ndarray, counts: np.ndarray) -> list[str]:
    """Return a line with the share of NaN among the values that count; no line where none is."""
    share = int(np.count_nonzero(is_nan & counts)) / max(1, int(np.count_nonzero(counts)))
    return [] if not share else [f"{share:.0%} are NaN" if share >= 0.01 else "<1% are NaN"]


def _stripes(shape: Shape) -> np.ndarray:
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    striped: np.ndarray = (rows + columns) // _STRIPE % 2 == 0
    return striped
