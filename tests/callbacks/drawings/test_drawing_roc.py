import numpy as np
import pytest

from assay.callbacks.drawings.canvas.theme import BLUE
from assay.callbacks.drawings.roc import draw_roc


def curves(count, points=101):
    false = np.linspace(1, 0, points)[None].repeat(count, axis=0)
    powers = np.linspace(0.2, 0.9, count)[:, None]
    return false, false**powers, 1 / (powers[:, 0] + 1)


@pytest.mark.parametrize("count", [1, 2, 10, 11, 200])
def test_the_picture_has_one_size_whatever_the_number_of_classes(count):
    false, true, areas = curves(count)
    picture = draw_roc(false, true, areas, np.full(count, 1e-4), [f"class {i}" for i in range(count)], "valid ROC")
    assert picture.dtype == np.uint8
    assert picture.shape == draw_roc(*(part[:1] for part in (false, true, areas, areas)), ["a"], "valid ROC").shape
    assert (picture != 255).any()


def place(false, true):
    """Return where a point of the chart is in the picture, by its grid: row and column."""
    return round(78 + 400 * (1 - true)), round(60 + 400 * false)


def test_a_curve_goes_through_its_points():
    false, true, areas = curves(1)
    picture = draw_roc(false, true, areas, areas * 0, ["a"], "ROC").astype(int)
    for index in range(5, 96, 15):
        row, column = place(false[0, index], true[0, index])
        area = picture[row - 1 : row + 2, column - 1 : column + 2]
        assert (np.abs(area - BLUE).sum(axis=-1) < 90).any()


def test_a_curve_that_rises_at_once_runs_along_the_frame():
    false, true = np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0]])
    picture = draw_roc(false, true, np.ones(1), np.zeros(1), ["a"], "ROC").astype(int)
    for row, column in (place(0, 0.5), place(0.5, 1)):
        assert np.abs(picture[row, column] - BLUE).sum() < 90


def test_a_class_without_a_curve_is_left_out_and_counted():
    false, true, areas = curves(3)
    names = ["a", "b", "c"]
    whole = draw_roc(false, true, areas, areas * 0, names, "ROC")
    false[1], true[1], areas[1] = np.nan, np.nan, np.nan
    assert not np.array_equal(whole, draw_roc(false, true, areas, areas * 0, names, "ROC"))


def test_no_curve_at_all_is_drawn_as_an_empty_chart():
    empty = np.full((2, 11), np.nan)
    picture = draw_roc(empty, empty, empty[:, 0], empty[:, 0], ["a", "b"], "ROC")
    assert picture.ndim == 3


def test_a_long_name_does_not_widen_the_picture():
    false, true, areas = curves(1)
    shapes = {draw_roc(false, true, areas, areas * 0, ["x" * size], "ROC").shape for size in (1, 500)}
    assert len(shapes) == 1
