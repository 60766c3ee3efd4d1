"""What of a picture can be seen in a card of TensorBoard, and by colour-blind people.

A card is 350 pixels wide, and browsers leave pixels out (``image-rendering: pixelated``). For each kind of picture::

    with recorded_texts() as texts:
        picture = draw_roc(...)
    check_texts(picture, texts)                                   # 10 pixels high in a card
    left, top, right, bottom = find_line(picture, BLUE)           # 3 pixels thick there, and in one piece
    assert right - left > 0.9 * panel_width                       # in pixels of the picture
    assert min(seen_apart(HIT, MISSED)) >= 40                     # for all three kinds of eyes
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np

from assay.callbacks.drawings.canvas import captions, fonts, text

CARD_WIDTH = 350
LEAST_TEXT = 10  # pixels in a card, from the top of an A to the bottom of a g
LEAST_LINE = 3  # pixels in a card

# Machado, Oliveira and Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency (2009), the
# matrices of severity 1.0, which apply to linear RGB.
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
PROTANOPIA = np.array(
    [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
)
# From linear sRGB to XYZ under D65, IEC 61966-2-1.
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def card_view(picture: np.ndarray) -> np.ndarray:
    """Return a picture [H, W, 3] as a card shows it: scaled to its width by leaving out, or repeating, pixels."""
    height, width = picture.shape[:2]
    rows = ((np.arange(max(1, round(height * CARD_WIDTH / width))) + 0.5) * width / CARD_WIDTH).astype(int)
    columns = ((np.arange(CARD_WIDTH) + 0.5) * width / CARD_WIDTH).astype(int)
    return picture[rows.clip(0, height - 1)][:, columns]


@contextmanager
def recorded_texts() -> Iterator[list[tuple[str, int]]]:
    """Collect each text that is drawn, with the size of its font in the picture."""
    # What was rendered before is remembered, and would not pass by here again.
    for remembered in (captions._text_patch, text._render):
        remembered.cache_clear()
    found: list[tuple[str, int]] = []
    render = fonts.render_line

    def record(line, size, *args, **options):
        if line.strip():
            found.append((line, size))
        return render(line, size, *args, **options)

    captions.render_line = text.render_line = record
    try:
        yield found
    finally:
        captions.render_line = text.render_line = render


def check_texts(picture: np.ndarray, texts: Sequence[tuple[str, int]]) -> None:
    """Fail, naming the texts that are too small in a card."""
    small = [(line, size) for line, size in texts if text_height(picture, size) < LEAST_TEXT]
    assert texts
    assert not small, f"in a picture {picture.shape[1]} wide, in a card below {LEAST_TEXT} pixels: {small}"


def text_height(picture: np.ndarray, size: int) -> float:
    """Return how many pixels high a text is in a card, from the top of an A to the bottom of a g."""
    mask, _ = fonts.render_line("Ag", size)
    return mask.size[1] * CARD_WIDTH / picture.shape[1]


def digit_height(picture: np.ndarray, size: int) -> float:
    """Return how many pixels high a digit is in a card."""
    mask, _ = fonts.render_line("0123456789", size)
    return mask.size[1] * CARD_WIDTH / picture.shape[1]


def find_line(
    picture: np.ndarray, colour: Sequence[int], *, gap: int = 0, tolerance: float = 12.0
) -> tuple[float, float, float, float]:
    """Return where a line is seen in a card as one piece, thick enough all along: left, top, right and bottom.

    Args:
        picture: [H, W, 3], at full size.
        colour: of the line.
        gap: pixels of a card that it may be interrupted for, by dashes or by what crosses it.
        tolerance: distance in CIELAB that still is the colour.

    Returns:
        In pixels of the picture, so that it can be compared with where it was drawn; all 0 if there is none.
    """
    view = card_view(picture)
    is_line = (np.linalg.norm(_to_lab(view) - _to_lab(np.array(colour)), axis=-1) < tolerance).astype(np.uint8)
    # What a cross of three pixels fits into: parts that are thinner are gone.
    thick = cv2.morphologyEx(is_line, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_CROSS, (LEAST_LINE,) * 2))
    if gap:
        thick = cv2.dilate(thick, np.ones((gap + 1, gap + 1), np.uint8))
    count, _, boxes, _ = cv2.connectedComponentsWithStats(thick, connectivity=8)
    if count < 2:
        return 0.0, 0.0, 0.0, 0.0
    left, top, width, height = max(boxes[1:, :4].tolist(), key=lambda box: box[2] + box[3])
    zoom = picture.shape[1] / CARD_WIDTH
    return left * zoom, top * zoom, (left + width) * zoom, (top + height) * zoom


def seen_apart(first: Sequence[int], second: Sequence[int]) -> list[float]:
    """Return the distance of two colours in CIELAB for most people, with deuteranopia, and with protanopia."""
    pair = np.array([first, second], dtype=np.float64)
    seen = [_to_lab(simulate(pair, kind)) for kind in (None, DEUTERANOPIA, PROTANOPIA)]
    return [float(np.linalg.norm(a - b)) for a, b in seen]


def simulate(colours: np.ndarray, kind: np.ndarray | None) -> np.ndarray:
    """Return colours [..., 3], 0 to 255, as people with a colour blindness see them; None: as they are."""
    if kind is None:
        return np.asarray(colours, dtype=np.float64)
    linear = (_to_linear(np.asarray(colours)) @ kind.T).clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _to_linear(colours: np.ndarray) -> np.ndarray:
    level = colours / 255.0
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


def _to_lab(colours: np.ndarray) -> np.ndarray:
    share = (_to_linear(colours) @ _TO_XYZ.T) / _TO_XYZ.sum(axis=1)
    x, y, z = np.moveaxis(np.where(share > (6 / 29) ** 3, np.cbrt(share), share * (29 / 6) ** 2 / 3 + 4 / 29), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)
