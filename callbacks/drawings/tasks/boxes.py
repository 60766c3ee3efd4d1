"""True and predicted boxes of a detection, drawn on the image."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from ...measures.box_matching import Matching, match_boxes
from ..canvas.fonts import shown_names
from ..canvas.grid import shorten, write
from ..canvas.palette import class_colours
from ..canvas.picture_style import PictureStyle
from ..canvas.text import text_length
from ..canvas.theme import FALSE, HIT, MISSED, Colour
from .sample_text import SampleText

_TEXT_SIZE = 10
_CHIP_HEIGHT = 13  # of the ground that a text stands on
_LONGEST = 130  # text, in pixels
_PALE = 0.5  # share of white in the ground, so that dark text can be read on any colour
_MANY = 12  # boxes: from here on a text may not be wider than its box

_LEGEND = (("hit: score, IoU", HIT, 3.0), ("missed (dashed)", MISSED, 2.0), ("false: score", FALSE, 1.0))


def draw_matched_boxes(
    picture: np.ndarray,
    shape: Sequence[int],
    output: Mapping[str, Any],
    target: Mapping[str, Any],
    style: PictureStyle,
    min_score: float,
    min_iou: float,
) -> SampleText:
    """Show which boxes are hit, missed and false.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that the boxes are in pixels of.
        output: ``boxes`` [P, 4] (left, top, right, bottom), ``scores`` [P], ``labels`` [P].
        target: ``boxes`` [M, 4], ``labels`` [M].
        style: names the labels.
        min_score: of predictions that are shown and counted.
        min_iou: with a true box of the same label, for a prediction to be a hit.
    """
    scores = np.asarray(output["scores"], dtype=np.float64).reshape(-1)
    kept = scores >= min_score
    # By score, as the matching gives each true box to the best prediction; a stable sort keeps ties as they came.
    order = np.flatnonzero(kept)[np.argsort(-scores[kept], kind="stable")]
    scores, boxes = scores[order], _boxes_of(output)[order]
    labels = np.asarray(output["labels"]).reshape(-1)[order]
    true_boxes, true_labels = _boxes_of(target), np.asarray(target["labels"]).reshape(-1)
    matching = match_boxes(boxes, scores, labels, true_boxes, true_labels, min_iou=min_iou)
    names = [style.name_of(int(label)) for label in labels]
    true_names = [style.name_of(int(label)) for label in true_labels]
    # Matched in pixels of the image, drawn in those of the picture.
    zoom = _zoom_of(picture, shape)
    drawn = _BoxPicture(picture, len(boxes) + int(matching.missed.sum()))
    for box, text, colour in _by_importance(matching, boxes * zoom, scores, names, true_boxes * zoom, true_names):
        drawn.add(box, text, colour)
    counts = int(matching.hit.sum()), int(matching.missed.sum()), int((~matching.hit).sum())
    line = "{} hit, {} missed, {} false".format(*counts)
    return SampleText([line], not any(counts[1:]), [0], [drawn.finish()], _LEGEND)


def draw_true_boxes(
    picture: np.ndarray, shape: Sequence[int], target: Mapping[str, Any], style: PictureStyle
) -> SampleText:
    """Show the true boxes alone, in the colours of their classes.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that the boxes are in pixels of.
        target: ``boxes`` [M, 4], ``labels`` [M].
        style: names the labels.
    """
    labels = np.asarray(target["labels"]).reshape(-1).astype(np.int64)
    colours = class_colours(max(0, int(labels.max(initial=0))) + 1)
    drawn, legend = _BoxPicture(picture, len(labels)), []
    for box, label in zip(_boxes_of(target) * _zoom_of(picture, shape), labels.tolist(), strict=True):
        red, green, blue = colours[max(0, label)].tolist()
        drawn.add(box, style.name_of(label), (red, green, blue))
        legend.append((style.name_of(label), (red, green, blue), 1.0))
    return SampleText([f"boxes: {len(labels)}"], None, (), [drawn.finish()], legend)


def draw_predicted_boxes(
    picture: np.ndarray, shape: Sequence[int], output: Mapping[str, np.ndarray], class_names: Sequence[str] | None
) -> np.ndarray:
    """Return the picture with boxes in the colours of their classes, each with its class and score.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that the boxes are in pixels of.
        output: ``boxes`` [P, 4] (left, top, right, bottom), ``scores`` [P], ``labels`` [P]; text is drawn where room
            is left, for the first boxes first.
        class_names: one per label.
    """
    labels = np.asarray(output["labels"]).reshape(-1).astype(np.int64)
    colours = class_colours(max(0, int(labels.max(initial=0))) + 1)
    drawn = _BoxPicture(picture, len(labels))
    style = PictureStyle(None if class_names is None else shown_names(class_names))
    boxes = _boxes_of(output) * _zoom_of(picture, shape)
    for box, score, label in zip(boxes, output["scores"], labels.tolist(), strict=True):
        red, green, blue = colours[max(0, label)].tolist()
        drawn.add(box, f"{style.name_of(label)} {score:.2f}", (red, green, blue))
    return drawn.finish()


def _by_importance(
    matching: Matching,
    boxes: np.ndarray,
    scores: np.ndarray,
    names: Sequence[str],
    true_boxes: np.ndarray,
    true_names: Sequence[str],
) -> Iterator[tuple[np.ndarray, str, Colour]]:
    """Yield box, text and colour of all that is drawn."""
    # What is wrong comes first, as text is drawn where room is left.
    for index in np.flatnonzero(matching.missed).tolist():
        yield true_boxes[index], true_names[index], MISSED
    for index in np.flatnonzero(~matching.hit).tolist():
        yield boxes[index], f"{names[index]} {scores[index]:.2f}", FALSE
    for index in np.flatnonzero(matching.hit).tolist():
        yield boxes[index], f"{names[index]} {scores[index]:.2f}, {matching.iou[index]:.2f}", HIT


# Where the text of a box may stand, in the order in which it is tried:
#
#   +-----------+
#   | 1: above  |
#   +-----------+---+
#   | 3: within     |
#   |               |
#   +-----------+---+
#   | 2: below  |
#   +-----------+
class _BoxPicture:
    """A picture with boxes and their texts, each where no other text stands."""

    def __init__(self, picture: np.ndarray, count: int):
        self.canvas = picture.copy()  # a heat map beside it is laid over the image without boxes
        self.many = count > _MANY
        self.chips: list[tuple[tuple[int, int, int, int], str, Colour]] = []
        self.taken = np.zeros(picture.shape[:2], dtype=bool)

    def add(self, box: np.ndarray, text: str, colour: Colour) -> None:
        if not np.isfinite(box).all():  # a diverged model predicts NaN, which has no place
            return
        height, width = self.canvas.shape[:2]
        # Clipped, as a side outside of the picture would leave an open box.
        most = (width - 1, height - 1, width - 1, height - 1)
        left, top, right, bottom = (int(side) for side in np.round(box).clip(0, most))
        thickness = 1 if self.many else 2
        if colour == MISSED:
            self._dash(left, top, right, bottom, thickness)
        else:
            cv2.rectangle(self.canvas, (left, top), (right, bottom), colour, thickness)
        self._place_text(left, top, right, bottom, text, colour)

    def _dash(self, left: int, top: int, right: int, bottom: int, thickness: int) -> None:
        # OpenCV draws no dashes: every second piece of a whole rectangle is kept. In the region around the box, as a
        # mask of the whole picture per box would cost more than all else.
        above, before = max(top - 1, 0), max(left - 1, 0)
        region = self.canvas[above : bottom + 2, before : right + 2]
        height, width = region.shape[:2]
        lines = np.zeros((height, width), dtype=np.uint8)
        first, last = (left - before, top - above), (right - before, bottom - above)
        cv2.rectangle(lines, first, last, 1, thickness)
        rows, columns = np.ogrid[above : above + height, before : before + width]
        region[(lines > 0) & ((rows + columns) // 4 % 2 == 0)] = MISSED

    def finish(self) -> np.ndarray:
        # Only when all boxes are drawn, so that no line crosses a text.
        for (left, top, right, bottom), text, colour in self.chips:
            self.canvas[top:bottom, left:right] = [round(level + (255 - level) * _PALE) for level in colour]
            write(self.canvas[top:bottom, left:right], (2, 0), text, size=_TEXT_SIZE)
        return self.canvas

    def _place_text(self, left: int, top: int, right: int, bottom: int, text: str, colour: Colour) -> None:
        height, width = self.canvas.shape[:2]
        text = shorten(text, min(_LONGEST, width - 4), _TEXT_SIZE)
        length = math.ceil(text_length(text, _TEXT_SIZE)) + 4
        if (self.many and length > right - left + 8) or length > width or height < _CHIP_HEIGHT:
            return
        # Text that would reach past the right border is moved to the left.
        start = min(left, width - length)
        # Above the box, below it, or within it; where no place is free the box stays without a text.
        for row in (top - _CHIP_HEIGHT, bottom + 1, top + 2):
            if row < 0 or row + _CHIP_HEIGHT > height:
                continue
            region = self.taken[row : row + _CHIP_HEIGHT, start : start + length]
            if not region.any():
                region[:] = True
                self.chips.append(((start, row, start + length, row + _CHIP_HEIGHT), text, colour))
                return


def _zoom_of(picture: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return by what to multiply boxes [M, 4] in pixels of the image to have them in pixels of the picture."""
    return np.array([picture.shape[1] / shape[1], picture.shape[0] / shape[0]] * 2)


def _boxes_of(found: Mapping[str, Any]) -> np.ndarray:
    """Return the boxes of an output or a target as [M, 4], also where there are none."""
    return np.asarray(found["boxes"], dtype=np.float64).reshape(-1, 4)
