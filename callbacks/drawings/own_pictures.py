"""Arrange the pictures that a user's own function returns under a title."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from .canvas.fonts import line_length
from .canvas.grid import Card, draw_grid, write
from .canvas.theme import CARD_GAP, HEADING_LINE, HEADING_SIZE, LARGEST_TILE_SIZE, PAPER, TILE_SIZE


def draw_own_pictures(pictures: Any, title: Sequence[str], captions: Sequence[Sequence[str]]) -> np.ndarray:
    """Arrange what a user's function returned.

    Args:
        pictures: one picture, which keeps its size, or a list of them, which go into a grid. Each is an array [H, W],
            [H, W, 1], [H, W, 3] or [H, W, 4], or a tensor with its channels first, [H, W] or [C, H, W]; uint8, bool,
            or floating point from 0 to 1.
        title: lines above.
        captions: lines for each sample; they stand below the pictures where there are as many.

    Returns:
        [H, W, 3], uint8, RGB.

    Raises:
        UsageError: there is no picture, or one has another shape or type.
    """
    if not isinstance(pictures, list | tuple):
        return _below_title(own_picture(pictures), title)
    if not pictures:
        raise UsageError("visualize_batch must return a picture or a list of them, got an empty list.")
    found = [own_picture(picture) for picture in pictures]
    lines = captions if len(captions) == len(found) else [()] * len(found)
    # As large as the largest picture, so that none is shrunk before the largest tile is reached.
    tile = min(LARGEST_TILE_SIZE, max(TILE_SIZE, *(side for picture in found for side in picture.shape[:2])))
    cards = [Card(picture, below) for picture, below in zip(found, lines, strict=True)]
    return draw_grid(cards, title, tile_size=tile)


def own_picture(picture: Any) -> np.ndarray:
    """Return one picture as [H, W, 3], uint8, RGB; see ``draw_own_pictures``."""
    is_tensor = isinstance(picture, torch.Tensor)
    array = picture.detach().cpu().numpy() if is_tensor else picture
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or not array.size or array.dtype.kind not in "bfu":
        raise _no_picture(picture)
    if array.ndim == 2:
        array = array[:, :, None]
    elif is_tensor:  # torch has channels first, NumPy and Matplotlib have them last
        array = array.transpose(1, 2, 0)
    if array.shape[2] not in (1, 3, 4) or (array.dtype.kind == "u" and array.dtype != np.uint8):
        raise _no_picture(picture)
    if array.dtype.kind in "bf":
        array = (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 255 + 0.5).astype(np.uint8)
    colours = array.repeat(3, axis=2) if array.shape[2] == 1 else array[:, :, :3]
    return np.ascontiguousarray(colours)


def _below_title(picture: np.ndarray, title: Sequence[str]) -> np.ndarray:
    width = max([picture.shape[1], *(int(line_length(line, HEADING_SIZE)) + 1 for line in title)]) + 2 * CARD_GAP
    top = CARD_GAP + HEADING_LINE * len(title)
    canvas = np.full((top + picture.shape[0] + CARD_GAP, width, 3), PAPER[0], dtype=np.uint8)
    for index, line in enumerate(title):
        write(canvas, (CARD_GAP, CARD_GAP + index * HEADING_LINE), line, size=HEADING_SIZE)
    canvas[top : top + picture.shape[0], CARD_GAP : CARD_GAP + picture.shape[1]] = picture
    return canvas


def _no_picture(picture: Any) -> UsageError:
    got = type(picture).__name__
    if hasattr(picture, "shape"):
        got = f"{got} {tuple(picture.shape)} of {picture.dtype}"
    return UsageError(
        "visualize_batch must return a picture or a list of them: an array [H, W, 3] or a tensor [3, H, W], uint8 or "
        f"floating point from 0 to 1 (of a Matplotlib figure np.asarray(figure.canvas.buffer_rgba())), got {got}."
    )
