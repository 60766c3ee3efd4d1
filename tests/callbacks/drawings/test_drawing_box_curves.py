"""Curves of boxes: each goes through its points, and is seen in a card, with any number of classes."""

import numpy as np
import pytest
from legibility import check_texts, find_line, recorded_texts

from assay.callbacks.drawings.box_curves import NamedCurves, draw_by_confidence, draw_precision_recall
from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.canvas.theme import INK, PALE_BLUE

FIRST = class_colours(1)[0]
THRESHOLD = np.arange(100) / 100


def curves(count):
    """Return classes of which the first is the worst, and whose precision rises as their recall falls."""
    powers = np.linspace(3, 0.5, count + 1)[:, None]
    recall = (1 - THRESHOLD) ** powers
    precision = 0.2 + 0.8 * THRESHOLD**0.5 + np.zeros_like(powers)
    f1 = 2 * precision * recall / (precision + recall)
    names = [f"class {index}" for index in range(count)]
    return NamedCurves(
        names, [f"AP50 0.{index:03d}" for index in range(count)], THRESHOLD, precision, recall, f1, "mean"
    )


DRAWINGS = {
    "precision by recall": lambda of: draw_precision_recall(of, ["valid boxes, epoch 3", "IoU from 0.5"]),
    "by confidence": lambda of: draw_by_confidence(of, 0.5, ["valid boxes, epoch 3", "best F1 0.712 from score 0.433"]),
}


@pytest.mark.parametrize("count", [0, 1, 2, 6, 7, 200])
@pytest.mark.parametrize("kind", DRAWINGS)
def test_the_picture_is_legible_in_a_card_with_any_number_of_classes(kind, count):
    with recorded_texts() as texts:
        picture = DRAWINGS[kind](curves(count))
    check_texts(picture, texts)
    shown = [text for text, _ in texts]
    named = [text for text in shown if text.startswith("class ")]
    assert named == [f"class {index}" for index in range(count if count <= 6 else 5)]
    assert ("all boxes together" in shown) == (count != 1)
    assert (f"the other {count - 5} classes" in shown) == (count > 6)
    assert (picture == np.array(PALE_BLUE)).all(axis=-1).any() == (count > 6)


@pytest.mark.parametrize("kind", DRAWINGS)
def test_the_lines_are_seen_in_a_card(kind):
    picture = DRAWINGS[kind](curves(2))
    for colour in (FIRST, INK):
        left, _, right, _ = find_line(picture, colour, gap=8)
        assert right - left > 0.8 * 600


def test_precision_is_the_largest_that_is_reached_with_a_recall_or_more():
    recall = np.array([[1.0, 0.75, 0.5, 0.25]] * 2)
    precision = np.array([[0.5, 0.4, 0.9, 0.3]] * 2)
    of = NamedCurves(["a"], [""], np.array([0.0, 0.25, 0.5, 0.75]), precision, recall, recall, "")
    picture = draw_precision_recall(of, ["boxes"])
    is_line = np.abs(picture.astype(int) - FIRST).sum(axis=-1) < 30
    bottom = max(np.flatnonzero(is_line[:, 640:660].any(axis=1)))

    def height(level):
        """Return the middle of the line at a recall, as a share of the panel."""
        column = round(70 + level * 606)
        rows = np.flatnonzero(is_line[:520, column])
        return (top_of_axis(picture) + 460 - rows.mean()) / 460

    assert bottom > 0
    # From 0.25 to 0.5 a precision of 0.9 is reached; between 0.5 and 0.75 the line falls to the 0.5 of the largest.
    assert height(0.1) == pytest.approx(0.9, abs=0.01)
    assert height(0.4) == pytest.approx(0.9, abs=0.01)
    assert height(0.9) == pytest.approx(0.5, abs=0.01)


def top_of_axis(picture):
    """Return the row of the upper edge of the panel: its frame is the first grey line that is as wide."""
    grey = (picture == 200).all(axis=-1)[:, 75:670].mean(axis=1)
    return int(np.flatnonzero(grey > 0.9)[0]) + 2


def test_where_nothing_is_predicted_nothing_is_drawn():
    none = np.full((2, 100), np.nan)
    of = NamedCurves(["a"], ["no hit"], THRESHOLD, none, np.zeros((2, 100)), np.zeros((2, 100)), "no hit")
    for draw in DRAWINGS.values():
        assert draw(of).shape[1] == 700
