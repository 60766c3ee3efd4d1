"""Arrange the pictures that a user's own function returns under a title."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UsageError
from .canvas.captions import break_lines, write
from .canvas.grid import Card, draw_grid
from .canvas.theme import (
    CARD_WIDTH,
    HEADING_LINE,
    HEADING_SIZE,
    LARGEST_TILE_SIZE,
    PAPER,
    SHEET_MARGIN,
    SHEET_WIDTH,
    TILE_SIZE,
)


def draw_own_pictures(
    pictures: Any, title: Sequence[str], captions: Sequence[Sequence[str]], names: Sequence[str]
) -> np.ndarray:
    """Arrange what a user's function returned.

    Args:
        pictures: one picture, which keeps its size, or a list of them, which go into a grid. Each is an array [H, W],
            [H, W, 1], [H, W, 3] or [H, W, 4], or a tensor with its channels first, [H, W] or [C, H, W]; uint8, bool,
            or floating point from 0 to 1.
        title: lines above.
        captions: lines for each sample; they stand below the pictures where there are as many.
        names: of the samples, which stand below the lines.

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
    below = list(zip(captions, names, strict=True)) if len(names) == len(found) else [((), "")] * len(found)
    # As large as the largest picture, so that none is shrunk before the largest tile is reached.
    tile = min(LARGEST_TILE_SIZE, max(TILE_SIZE, *(side for picture in found for side in picture.shape[:2])))
    cards = [Card(picture, lines, name=name) for picture, (lines, name) in zip(found, below, strict=True)]
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
    # A card of TensorBoard scales the picture with its title: in letters of 14 pixels of the card.
    room = max(picture.shape[1], CARD_WIDTH)
    size = room * HEADING_SIZE // SHEET_WIDTH
    height = size * HEADING_LINE // HEADING_SIZE
    lines = [part for line in title for part in break_lines(line, room, size)]
    top = SHEET_MARGIN + height * len(lines)
    shape = (top + picture.shape[0] + SHEET_MARGIN, room + 2 * SHEET_MARGIN, 3)
    canvas = np.full(shape, PAPER[0], dtype=np.uint8)
    for index, line in enumerate(lines):
        write(canvas, (SHEET_MARGIN, SHEET_MARGIN + index * height), line, size=size)
    canvas[top : top + picture.shape[0], SHEET_MARGIN : SHEET_MARGIN + picture.shape[1]] = picture
    return canvas


def _no_picture(picture: Any) -> UsageError:
    got = type(picture).__name__
    if hasattr(picture, "shape"):
        got = f"{got} {tuple(picture.shape)} of {picture.dtype}"
    return UsageError(
        "visualize_batch must return a picture or a list of them: an array [H, W, 3] or a tensor [3, H, W], uint8 or "
        f"floating point from 0 to 1 (of a Matplotlib figure np.asarray(figure.canvas.buffer_rgba())), got {got}."
    )
