"""True and predicted numbers of a regression, as lines of text or as maps of pixels."""

from collections.abc import Sequence

import cv2
import numpy as np

from ..canvas.fonts import line_length
from ..canvas.images import scale
from ..canvas.picture_style import PictureStyle
from ..canvas.theme import CAPTION_SIZE, IGNORED, NAN
from .sample_text import SampleText
from .subsample import subsample_step

_MOST_NUMBERS = 4


def describe_numbers(output: np.ndarray, target: np.ndarray, style: PictureStyle, width: int) -> SampleText:
    """List true and predicted numbers, and how far they are apart.

    Args:
        output: one number or [D].
        target: one number or [D].
        style: a number that is its ``ignore_index`` does not count.
        width: of a line in pixels.
    """
    true, found = target.reshape(-1).astype(np.float64), output.reshape(-1).astype(np.float64)
    counts = find_counted(true, style.ignore_index)
    error = np.abs(found - true)[counts].mean() if counts.any() else None
    if len(true) == 1 and error is not None:
        pair = f"{true[0]:.4g} → {found[0]:.4g}"
        if line_length(pair, CAPTION_SIZE) <= width:
            return SampleText([pair, f"off by {error:.4g}"])
    lines = [list_true_numbers(true, style.ignore_index, width), _list_values("pred", found, width)]
    if error is not None:
        lines.append(f"{'off by' if len(true) == 1 else 'mean error'} {error:.4g}")
    return SampleText(lines)


def list_true_numbers(true: np.ndarray, ignore_index: float | None, width: int) -> str:
    """Return the line of true numbers, [D], of which some are left out where it would be wider than ``width``."""
    return _list_values("true", true, width) if find_counted(true, ignore_index).any() else "true: ignored"


def draw_number_maps(picture: np.ndarray, output: np.ndarray, target: np.ndarray, style: PictureStyle) -> SampleText:
    """Show truth and prediction in the same colours, from the smallest to the largest true number, and their error.

    Large maps are subsampled, see ``subsample_step``. Three channels are shown as red, green and blue; of
    any other number the first one.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        output: [H, W] or [D, H, W].
        target: [H, W] or [D, H, W].
        style: pixels of its ``ignore_index`` do not count.
    """
    true, found = (_read_channels(part) for part in (target, output))
    counts = find_counted(true, style.ignore_index)
    if not counts.any():
        return SampleText(["all ignored"], None, (), [picture] * 4, (), _PANELS)
    # One range for truth and prediction, so that equal colours are equal numbers; that of the truth, as a diverged
    # prediction would leave no contrast.
    low, high = float(true[counts].min()), float(true[counts].max())
    error = np.where(counts, np.abs(found - true), 0.0)
    # Finite, also where a prediction is not: the scale of the errors ends there.
    most = float(np.nan_to_num(error, posinf=0.0).max())
    lines = [f"MAE {error[counts].mean():.4g}, most {most:.4g}", f"true: {low:.4g} to {high:.4g}"]
    if len(true) not in (1, 3):
        lines.append(f"channel 0 of {len(true)} is shown")
    panels = [_colour_numbers(true, low, high, counts), _colour_numbers(found, low, high, np.ones_like(counts))]
    any_counts: np.ndarray = np.any(counts, axis=0, keepdims=True)
    panels.append(_colour_numbers(error.mean(axis=0, keepdims=True), 0.0, most, any_counts))
    return SampleText(lines, None, (), [picture, *(scale(panel, picture.shape[:2]) for panel in panels)], (), _PANELS)


def draw_true_number_map(picture: np.ndarray, target: np.ndarray, style: PictureStyle) -> SampleText:
    """Show true numbers alone, [H, W] or [D, H, W], see ``draw_number_maps``."""
    true = _read_channels(target)
    counts = find_counted(true, style.ignore_index)
    if not counts.any():
        return SampleText(["true: ignored"], None, (), [picture] * 2, (), "image, truth")
    low, high = float(true[counts].min()), float(true[counts].max())
    panel = scale(_colour_numbers(true, low, high, counts), picture.shape[:2])
    return SampleText([f"true: {low:.4g} to {high:.4g}"], None, (), [picture, panel], (), "image, truth")


_PANELS = "above image and truth; below prediction, in the truth's range, and absolute error, from 0 to its most"


def find_counted(true: np.ndarray, ignore_index: float | None) -> np.ndarray:
    """Return which true numbers are finite and not ignored."""
    counts: np.ndarray = np.isfinite(true)
    if ignore_index is not None:
        counts = counts & (true != ignore_index)
    return counts


def _read_channels(part: np.ndarray) -> np.ndarray:
    step = subsample_step(part.shape)
    read = part[..., ::step, ::step].astype(np.float64)
    return read if read.ndim == 3 else read[None]


def _colour_numbers(channels: np.ndarray, low: float, high: float, counts: np.ndarray) -> np.ndarray:
    """Return numbers [D, H, W] as colours, [H, W, 3]; what does not count is grey, NaN black."""
    shown = channels if len(channels) == 3 else channels[:1]
    with np.errstate(invalid="ignore"):
        # A constant truth has no range: any divisor will do.
        unit = (shown - low) / (high - low or 1.0)
    level = np.ascontiguousarray((np.nan_to_num(unit).clip(0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))
    drawn = level
    if len(shown) == 1:
        drawn = cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    # Last, over the colours of numbers: Viridis has neither grey nor black.
    drawn[~counts[: len(shown)].all(axis=0)] = IGNORED
    drawn[np.isnan(shown).any(axis=0)] = NAN
    painted: np.ndarray = drawn
    return painted


def _list_values(head: str, values: Sequence[float] | np.ndarray, width: int) -> str:
    text = ""
    for shown in range(min(len(values), _MOST_NUMBERS), 0, -1):
        more = f" +{len(values) - shown} more" if shown < len(values) else ""
        text = f"{head}: {', '.join(f'{value:.4g}' for value in values[:shown])}{more}"
        if line_length(text, CAPTION_SIZE) <= width:
            break
    return text
