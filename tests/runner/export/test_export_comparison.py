"""How far two sets of outputs are apart: by value, and of boxes after they are matched."""

import numpy as np
import pytest

from assay.runner.export.comparison import compare_boxes, compare_outputs


def boxes(*rows):
    """Return what a detector finds, of rows of left, top, right, bottom, score and label."""
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].astype(np.int64)}


def test_the_largest_difference_of_all_outputs_counts_and_is_named():
    expected = {"a": np.zeros((2, 3)), "b": np.array([1, 2])}
    found = {"a": np.full((2, 3), 0.25), "b": np.array([1, 4])}
    assert compare_outputs(expected, found) == (2.0, "b")
    assert compare_outputs(expected, expected) == (0.0, "b")


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.inf, 1.0], [np.inf, 1.5], 0.5),
        ([np.inf], [-np.inf], np.inf),
        ([np.nan], [0.0], np.inf),
        ([1.0], [[1.0]], np.inf),
        ([], [], 0.0),
    ],
)
def test_what_is_not_finite_must_be_the_same(first, second, difference):
    assert compare_outputs({"x": np.array(first)}, {"x": np.array(second)}).value == difference


def test_boxes_are_matched_by_overlap_and_not_by_place():
    expected = boxes([0, 0, 10, 10, 0.9, 1], [20, 20, 30, 40, 0.5, 1])
    found = boxes([20, 20, 30, 40.5, 0.5, 1], [0, 0, 10, 10, 0.75, 1])
    assert compare_boxes(expected, found, 100) == (pytest.approx(0.15), "scores")
    found["scores"] = np.array([0.5, 0.9], dtype=np.float32)
    assert compare_boxes(expected, found, 100) == (pytest.approx(0.005), "coordinates")


@pytest.mark.parametrize(
    "found",
    [
        boxes(),
        boxes([0, 0, 10, 10, 0.9, 1], [0, 0, 10, 10, 0.9, 1]),
        boxes([0, 0, 10, 10, 0.9, 2]),
        boxes([50, 50, 60, 60, 0.9, 1]),
    ],
    ids=["none", "twice", "of another class", "elsewhere"],
)
def test_a_box_that_only_one_side_finds_is_infinitely_far(found):
    assert compare_boxes(boxes([0, 0, 10, 10, 0.9, 1]), found, 100).value == np.inf


def test_boxes_without_an_area_match_each_other():
    same = boxes([0, 0, 0, 10, 0.9, 1], [0, 0, 0, 10, 0.4, 1], [5, 5, 9, 9, 0.3, 1])
    assert compare_boxes(same, same, 100).value == 0
    assert compare_boxes(boxes(), boxes(), 100).value == 0
