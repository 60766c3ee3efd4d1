import time

import numpy as np
import pytest

from assay.callbacks.drawings.canvas.matrix_sheet import MatrixSheet, _marked_indices
from assay.callbacks.drawings.confusion_matrix import (
    NORMALIZATIONS,
    _cell_colours,
    _compact,
    _percent,
    _scale_entries,
    draw_confusion_matrix,
    draw_label_matrix,
)

TITLE = ["valid confusion matrix, epoch 1", "12 samples, 50% right"]
LONG = "a very long name of a class that never ends " * 3


def matrix(classes):
    counts = np.random.poisson(3, (classes, classes))
    counts[np.arange(classes), np.arange(classes)] += 500
    return counts


def colour_at(picture, classes, row, column):
    """The colour in the corner of a cell, where no number stands."""
    sheet = MatrixSheet(([str(i) for i in range(classes)],) * 2, ("true", "predicted"), TITLE)
    return tuple(picture[sheet.top + row * sheet.cell[1] + 1, sheet.left + column * sheet.cell[0] + 1])


def is_white(part):
    return (part == 255).all()


@pytest.mark.parametrize("classes", [2, 3, 10, 20, 21, 40, 41, 200, 1000])
@pytest.mark.parametrize("name", ["{}", LONG])
def test_nothing_is_cut_off_at_any_number_of_classes(classes, name):
    picture = draw_confusion_matrix(matrix(classes), [name.format(i) for i in range(classes)], TITLE)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert max(picture.shape) < 1700
    assert all(is_white(edge) for edge in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]))


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("classes", [3, 50])
def test_cells_have_the_colour_of_their_share(normalize, classes):
    counts = matrix(classes)
    totals = {"true": counts.sum(1, keepdims=True), "pred": counts.sum(0), "all": counts.sum(), "none": counts.max()}
    names = [str(i) for i in range(classes)]
    picture = draw_confusion_matrix(counts, names, TITLE, normalize=normalize)
    expected = _cell_colours(counts / totals[normalize])
    for row, column in ((0, 0), (0, 1), (1, 0), (2, 2)):
        assert colour_at(picture, classes, row, column) == tuple(expected[row, column])


def test_a_class_without_samples_is_grey_and_an_empty_cell_white():
    counts = np.array([[5, 0], [0, 0]])
    picture = draw_confusion_matrix(counts, ["0", "1"], TITLE)
    assert colour_at(picture, 2, 0, 1) == (255, 255, 255)
    assert colour_at(picture, 2, 1, 0) == colour_at(picture, 2, 1, 1) == (225, 225, 225)


def test_rare_confusions_are_seen():
    rare, none = _cell_colours(np.array([0.002, 0.0]))
    assert (none.astype(int) - rare).max() >= 10


@pytest.mark.parametrize(("classes", "numbers"), [(3, True), (20, True), (40, True), (60, False)])
def test_numbers_stand_in_the_cells_where_there_is_room(classes, numbers):
    counts = np.full((classes, classes), 7)
    names = [str(i) for i in range(classes)]
    sheet = MatrixSheet((names, names), ("true", "predicted"), TITLE)
    width, height = sheet.cell
    cell = draw_confusion_matrix(counts, names, TITLE)[sheet.top :, sheet.left :][:height, :width].reshape(-1, 3)
    assert (len(np.unique(cell, axis=0)) > 1) == numbers


@pytest.mark.parametrize("labels", [1, 3, 4, 80])
@pytest.mark.parametrize("normalize", ["true", "none"])
def test_labels_are_rows_of_four_outcomes(labels, normalize):
    counts = np.random.randint(1, 90, (labels, 2, 2))
    names = [f"label {i}" for i in range(labels)]
    picture = draw_label_matrix(counts, names, TITLE, normalize=normalize)
    sheet = MatrixSheet((names, ["a"] * 4), ("label", ""), TITLE, cell_width=76)
    total = counts.sum(axis=2, keepdims=True) if normalize == "true" else counts.max()
    expected = _cell_colours((counts / total).reshape(-1, 4))
    for row in {0, labels - 1}:
        for column in range(4):
            pixel = picture[sheet.top + row * sheet.cell[1] + 1, sheet.left + column * 76 + 1]
            assert tuple(pixel) == tuple(expected[row, column])
    assert is_white(picture[-4:])


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_matrix_without_samples_is_drawn(normalize):
    picture = draw_confusion_matrix(np.zeros((3, 3), dtype=np.int64), ["a", "b", "c"], TITLE, normalize=normalize)
    assert colour_at(picture, 3, 1, 1) == (225, 225, 225)


def test_a_long_title_widens_the_picture():
    picture = draw_confusion_matrix(matrix(2), ["a", "b"], ["W" * 100])
    assert picture.shape[1] > 1000
    assert is_white(picture[:, -8:])


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9999, "9999"),
        (12345, "12k"),
        (1234567, "1.2M"),
        (45 * 10**6, "45M"),
        (10**9, "1.0G"),
        (10**13, "10T"),
    ],
)
def test_large_counts_are_short(count, text):
    assert _compact(count) == text


def test_the_scale_of_small_counts_repeats_no_number():
    assert list(_scale_entries(2).values()) == ["0", "1", "2"]
    assert list(_scale_entries(0).values()) == ["0"]
    assert list(_scale_entries(None).values()) == ["0%", "5%", "25%", "50%", "100%"]


@pytest.mark.parametrize(("count", "cell", "step"), [(10, 56, 1), (60, 13, 5), (200, 4, 10), (1000, 1, 50)])
def test_of_many_classes_some_are_marked_at_round_numbers(count, cell, step):
    assert _marked_indices(count, cell) == range(0, count, step)


def test_drawing_is_cheap():
    start = time.perf_counter()
    draw_confusion_matrix(matrix(200), ["name"] * 200, TITLE)
    assert time.perf_counter() - start < 1.0


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0"), (0.0049, "<1"), (0.006, "1"), (0.9949, "99"), (0.996, ">99"), (1.0, "100")],
)
def test_a_share_that_is_not_all_or_none_is_not_written_so(share, text):
    assert _percent(share) == text
