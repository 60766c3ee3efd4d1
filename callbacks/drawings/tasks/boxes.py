"""True and predicted boxes of a detection, drawn on the image."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ...measures.box_matching import Matching, crowds_of, match_beside_crowds
from ..canvas.captions import shorten, write
from ..canvas.fonts import shown_names
from ..canvas.legend import Entry
from ..canvas.palette import class_colours
from ..canvas.picture_style import PictureStyle
from ..canvas.text import text_length
from ..canvas.theme import FALSE, FRAME, HIT, INK, MISSED, NOTE_SIZE, PALE, PAPER, Colour
from .sample_text import SampleText

_FILE_SIZE = 14  # of the text on a picture that is a file of its own, and in no card of TensorBoard
_LONGEST = 170  # text, in pixels
_TINT = 0.6  # share of white in the ground, so that dark text can be read on any colour
_MANY = 12  # boxes: from here on lines are thin, hits have no text, and others one that is not wider than its box
_DASH = 10  # length of a dash, and of the gap behind it
_MOST_BELOW = 10  # boxes below the smallest score

_ENTRIES = (
    Entry("✓ hit: score", HIT, "line"),
    Entry("missed", MISSED, "dashed"),
    Entry("✗ false: score", FALSE, "line"),
)


def draw_matched_boxes(
    picture: np.ndarray,
    shape: Sequence[int],
    output: Mapping[str, Any],
    target: Mapping[str, Any],
    style: PictureStyle,
    min_score: float,
    min_iou: float,
    named: bool = True,
) -> SampleText:
    """Show which boxes are hit, missed and false, and in a pale colour the best predictions below ``min_score``.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that the boxes are in pixels of.
        output: ``boxes`` [P, 4] (left, top, right, bottom), ``scores`` [P], ``labels`` [P].
        target: ``boxes`` [M, 4], ``labels`` [M] and, where there are crowds, ``iscrowd`` [M].
        style: names the labels.
        min_score: of predictions that are counted.
        min_iou: with a true box of the same label, for a prediction to be a hit.
        named: whether each box has the name of its class beside it, see ``need_names``.
    """
    scores = np.asarray(output["scores"], dtype=np.float64).reshape(-1)
    # By score, as the matching gives each true box to the best prediction; a stable sort keeps ties as they came.
    order = np.argsort(-scores, kind="stable")
    kept, below = order[scores[order] >= min_score], order[scores[order] < min_score]
    boxes, labels = _boxes_of(output), np.asarray(output["labels"]).reshape(-1)
    true = {**target, "boxes": _boxes_of(target), "labels": np.asarray(target["labels"]).reshape(-1)}
    found = {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}
    matching, counts = match_beside_crowds(found, true, min_iou=min_iou)
    # What lies in a crowd is neither hit nor false.
    kept, matching = kept[counts], Matching(matching.truth[counts], matching.iou[counts], matching.missed)
    is_crowd = crowds_of(true)
    true_boxes, true_labels, crowds = true["boxes"][~is_crowd], true["labels"][~is_crowd], true["boxes"][is_crowd]
    # Matched in pixels of the image, drawn in those of the picture.
    zoom = _zoom_of(picture, shape)
    drawn = _BoxPicture(picture, len(kept) + int(matching.missed.sum()))
    for crowd in crowds:
        drawn.add(crowd * zoom, "crowd", PALE)
    for index in below[:_MOST_BELOW].tolist():  # first, so that the others lie over them
        # Where nothing else is predicted, their scores tell which threshold there should be.
        drawn.add(boxes[index] * zoom, "" if len(kept) else f"{scores[index]:.2g}", PALE)
    names, true_names = (_names(part, style, named) for part in (labels[kept], true_labels))
    texts = [f"{name} {score:.2f}".strip() for name, score in zip(names, scores[kept], strict=True)]
    for box, text, colour in _by_importance(matching, boxes[kept] * zoom, texts, true_boxes * zoom, true_names):
        drawn.add(box, text, colour)
    hit, missed, false = (int(part.sum()) for part in (matching.hit, matching.missed, ~matching.hit))
    legend = [
        (entry, 1e3**-index)
        for index, (entry, count) in enumerate(zip(_ENTRIES, (hit, missed, false), strict=True))
        if count
    ]
    legend += [(Entry(f"best below {min_score:g}", PALE, "line"), 0.0)] if len(below) else []
    line, note = f"{hit} of {len(true_boxes)} hit, {false} false", _name_all(named, [*true_labels, *labels], style)
    return SampleText([line], not missed and not false, (), [drawn.finish()], legend, note)


def _names(labels: np.ndarray, style: PictureStyle, named: bool) -> list[str]:
    return [style.name_of(int(label)) if named else "" for label in labels]


def need_names(parts: Iterable[Any]) -> bool:
    """Whether boxes differ in their class: if not, the name of the only one on each would hide what is below."""
    with_labels = [part for part in parts if isinstance(part, Mapping) and "labels" in part]
    return len({int(label) for part in with_labels for label in np.asarray(part["labels"]).reshape(-1)}) > 1


def _name_all(named: bool, labels: Sequence[Any], style: PictureStyle) -> str:
    if named or not labels or style.class_names is None:
        return ""
    return f"all boxes: {style.name_of(int(labels[0]))}"


def draw_true_boxes(
    picture: np.ndarray, shape: Sequence[int], target: Mapping[str, Any], style: PictureStyle, named: bool = True
) -> SampleText:
    """Show the true boxes alone, in the colours of their classes.

    Args:
        picture: [h, w, 3], the image in the size it is shown in.
        shape: height and width of the image that the boxes are in pixels of.
        target: ``boxes`` [M, 4], ``labels`` [M].
        style: names the labels.
        named: whether each box has the name of its class beside it, see ``need_names``.
    """
    labels = np.asarray(target["labels"]).reshape(-1).astype(np.int64)
    colours = class_colours(max(0, int(labels.max(initial=0))) + 1)
    drawn, legend = _BoxPicture(picture, len(labels)), []
    for box, label in zip(_boxes_of(target) * _zoom_of(picture, shape), labels.tolist(), strict=True):
        red, green, blue = colours[max(0, label)].tolist()
        drawn.add(box, style.name_of(label) if named else "", (red, green, blue))
        legend.append((Entry(style.name_of(label), (red, green, blue), "line"), 1.0))
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
    drawn = _BoxPicture(picture, len(labels), _FILE_SIZE)
    style = PictureStyle(None if class_names is None else shown_names(class_names))
    boxes = _boxes_of(output) * _zoom_of(picture, shape)
    for box, score, label in zip(boxes, output["scores"], labels.tolist(), strict=True):
        red, green, blue = colours[max(0, label)].tolist()
        drawn.add(box, f"{style.name_of(label)} {score:.2f}", (red, green, blue))
    return drawn.finish()


def _by_importance(
    matching: Matching, boxes: np.ndarray, texts: Sequence[str], true_boxes: np.ndarray, true_names: Sequence[str]
) -> Iterator[tuple[np.ndarray, str, Colour]]:
    """Yield box, text and colour of all that is drawn."""
    # What is wrong comes first, as text is drawn where room is left.
    for index in np.flatnonzero(matching.missed).tolist():
        yield true_boxes[index], true_names[index], MISSED
    for index in np.flatnonzero(~matching.hit).tolist():
        yield boxes[index], f"✗ {texts[index]}", FALSE
    for index in np.flatnonzero(matching.hit).tolist():
        yield boxes[index], f"✓ {texts[index]}", HIT


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

    def __init__(self, picture: np.ndarray, count: int, size: int = NOTE_SIZE):
        self.canvas = picture.copy()  # a heat map beside it is laid over the image without boxes
        self.many = count > _MANY
        self.size, self.chip = size, size + 2  # of a text, and the height of the ground that it stands on
        self.chips: list[tuple[tuple[int, int, int, int], str, Colour]] = []
        self.taken = np.zeros(picture.shape[:2], dtype=bool)

    def add(self, box: np.ndarray, text: str, colour: Colour) -> None:
        if not np.isfinite(box).all():  # a diverged model predicts NaN, which has no place
            return
        height, width = self.canvas.shape[:2]
        # Clipped, as a side outside of the picture would leave an open box.
        most = (width - 1, height - 1, width - 1, height - 1)
        left, top, right, bottom = (int(side) for side in np.round(box).clip(0, most))
        right, bottom = max(left, right), max(top, bottom)
        stroke = FRAME // 2 if self.many or colour == PALE else FRAME
        # A thick line would hide a small object, although it lies around it.
        stroke = min(stroke, max(2, min(right - left, bottom - top) // 4))
        self._draw_lines(left, top, right, bottom, stroke, colour)
        if text and not (self.many and colour == HIT):
            self._place_text(left, top, right, bottom, text, colour)

    def _draw_lines(self, left: int, top: int, right: int, bottom: int, stroke: int, colour: Colour) -> None:
        """Draw a box around the object, between two thin lines, as its colour may be that of the image."""
        edge = INK if sum(colour) > 330 else PAPER
        # Around the object, but within the picture.
        height, width = self.canvas.shape[:2]
        left, right = max(left - stroke, 1), min(right + stroke + 1, width - 1)
        top, bottom = max(top - stroke, 1), min(bottom + stroke + 1, height - 1)
        if not self.many:  # the edges of many lines would darken the picture
            for bar in _bars(left - 1, top - 1, right + 1, bottom + 1, stroke + 2):
                self.canvas[bar] = edge
        for bar in _bars(left, top, right, bottom, stroke):
            self.canvas[bar] = colour
            if colour == MISSED:
                _dash(self.canvas[bar])

    def finish(self) -> np.ndarray:
        # Only when all boxes are drawn, so that no line crosses a text.
        for (left, top, right, bottom), text, colour in self.chips:
            self.canvas[top:bottom, left:right] = [round(level + (255 - level) * _TINT) for level in colour]
            write(self.canvas[top:bottom, left:right], (3, -(self.size // 10)), text, size=self.size)
        return self.canvas

    def _place_text(self, left: int, top: int, right: int, bottom: int, text: str, colour: Colour) -> None:
        height, width = self.canvas.shape[:2]
        text = shorten(text, min(_LONGEST, width - 6), self.size)
        length = math.ceil(text_length(text, self.size)) + 6
        if (self.many and length > right - left + 8) or length > width or height < self.chip:
            return
        # Text that would reach past the right border is moved to the left.
        start = min(left, width - length)
        # Above the box, below it, or within it; where no place is free the box stays without a text.
        for row in (top - self.chip, bottom + 1, top + 2):
            if row < 0 or row + self.chip > height:
                continue
            region = self.taken[row : row + self.chip, start : start + length]
            if not region.any():
                region[:] = True
                self.chips.append(((start, row, start + length, row + self.chip), text, colour))
                return


def _bars(left: int, top: int, right: int, bottom: int, stroke: int) -> list[tuple[slice, slice]]:
    """Return the four sides of a frame: rows and columns within it."""
    across, down = slice(left, right), slice(top, bottom)
    return [
        (slice(top, top + stroke), across),
        (slice(max(bottom - stroke, top), bottom), across),
        (down, slice(left, left + stroke)),
        (down, slice(max(right - stroke, left), right)),
    ]


def _dash(bar: np.ndarray) -> None:
    along = bar if bar.shape[0] > bar.shape[1] else bar.transpose(1, 0, 2)
    for start in range(_DASH, len(along), 2 * _DASH):
        along[start : start + _DASH] = PAPER


def _zoom_of(picture: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return by what to multiply boxes [M, 4] in pixels of the image to have them in pixels of the picture."""
    return np.array([picture.shape[1] / shape[1], picture.shape[0] / shape[0]] * 2)


def _boxes_of(found: Mapping[str, Any]) -> np.ndarray:
    """Return the boxes of an output or a target as [M, 4], also where there are none."""
    return np.asarray(found["boxes"], dtype=np.float64).reshape(-1, 4)
