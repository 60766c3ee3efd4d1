import numpy as np
import pytest
from legibility import check_texts, find_line, recorded_texts

from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.canvas.theme import INK
from assay.callbacks.drawings.roc import OTHERS, draw_roc

FIRST = class_colours(1)[0]


def curves(count, points=101):
    false = np.linspace(1, 0, points)[None].repeat(count, axis=0)
    powers = np.linspace(0.2, 0.9, count)[:, None]
    return false, false**powers, 1 / (powers[:, 0] + 1)


def names_of(count):
    return [f"class {i}" for i in range(count)]


def texts_of(*arguments):
    with recorded_texts() as texts:
        picture = draw_roc(*arguments)
    check_texts(picture, texts)
    return [text for text, _ in texts]


@pytest.mark.parametrize("count", [1, 2, 6, 7, 10, 200])
def test_the_picture_is_legible_in_a_card_with_any_number_of_classes(count):
    false, true, areas = curves(count)
    texts = texts_of(false, true, areas, np.full(count, 1e-4), names_of(count), "valid ROC")
    named = [text for text in texts if text.startswith("class ")]
    # The worst are those of the smallest area, here the last ones, and come first.
    assert named == names_of(count)[::-1][: count if count <= 6 else 5]


def place(false, true):
    """Return where a point of the left chart is in the picture: row and column."""
    return round(122 + 320 * (1 - true)), round(60 + 250 * false)


@pytest.mark.parametrize("power", [0.2, 0.6])
def test_a_curve_goes_through_its_points_and_is_seen_in_a_card(power):
    false = np.linspace(1, 0, 101)[None]
    true = false**power
    picture = draw_roc(false, true, np.array([1 / (power + 1)]), np.zeros(1), ["a"], "ROC")
    for index in range(5, 96, 15):
        row, column = place(false[0, index], true[0, index])
        area = picture[row - 1 : row + 2, column - 1 : column + 2].astype(int)
        assert (np.abs(area - FIRST).sum(axis=-1) < 30).any()
    left, top, right, bottom = find_line(picture[:, :320], FIRST)
    assert right - left > 0.9 * 250
    assert bottom - top > 0.8 * 320


def test_the_corner_is_enlarged_as_far_as_the_worst_class_allows():
    false = np.array([[1.0, 0.003, 0.0]])
    texts = texts_of(false, np.array([[1.0, 0.997, 0.0]]), np.array([0.997]), np.zeros(1), ["a"], "ROC")
    assert {"0.01", "0.99"} <= set(texts)
    texts = texts_of(*(part[:1] for part in (*curves(2), np.zeros(2))), ["a"], "ROC")
    assert {"0.5", "0.75"} <= set(texts)


def test_a_curve_that_rises_at_once_runs_along_the_frame():
    false, true = np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 1.0, 0.0]])
    picture = draw_roc(false, true, np.ones(1), np.zeros(1), ["a"], "ROC").astype(int)
    for row, column in (place(0, 0.5), place(0.5, 1)):
        assert np.abs(picture[row, column] - FIRST).sum() < 30


def test_the_classes_that_are_not_named_are_a_band_between_the_worst_and_the_best_of_them():
    false, true, areas = curves(20)
    picture = draw_roc(false, true, areas, areas * 0, names_of(20), "ROC")
    row, column = place(0.2, 0.2 ** np.linspace(0.2, 0.9, 20)[3])
    assert tuple(picture[row, column]) == OTHERS
    # The mean is between: here at a height that no single curve has.
    row, column = place(0.2, np.mean(0.2 ** np.linspace(0.2, 0.9, 20)))
    assert (np.abs(picture[row - 2 : row + 3, column].astype(int) - INK).sum(axis=-1) < 30).any()


def test_a_bound_is_shown_only_where_the_digits_show_it():
    false, true, areas = curves(2)
    assert not [text for text in texts_of(false, true, areas, areas * 0 + 1e-6, ["a", "b"], "ROC") if "±" in text]
    texts = texts_of(false, true, areas, np.array([0.002, 0]), ["a", "b"], "ROC")
    assert [text for text in texts if "±" in text] == ["mean AUC 0.6798, each within ±0.002", "AUC 0.8333 ± 0.002"]


def test_a_class_without_a_curve_is_left_out_and_counted():
    false, true, areas = curves(3)
    false[1], true[1], areas[1] = np.nan, np.nan, np.nan
    texts = texts_of(false, true, areas, areas * 0, names_of(3), "ROC")
    assert "class 1" not in texts and "1 of 3 without positives or negatives" in texts


def test_no_curve_at_all_is_drawn_as_an_empty_chart():
    empty = np.full((2, 11), np.nan)
    assert "no class has both positives and negatives" in texts_of(empty, empty, empty[:, 0], empty[:, 0], "ab", "ROC")


def test_a_long_name_does_not_widen_the_picture():
    false, true, areas = curves(1)
    shapes = {draw_roc(false, true, areas, areas * 0, ["x" * size], "ROC").shape for size in (1, 500)}
    assert len(shapes) == 1
