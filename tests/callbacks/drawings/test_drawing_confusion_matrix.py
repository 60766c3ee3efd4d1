import time

import cv2
import numpy as np
import pytest
from legibility import card_view, check_texts, recorded_texts

from assay.callbacks.drawings.canvas.matrix_sheet import MatrixSheet, _marks
from assay.callbacks.drawings.canvas.theme import ABSENT, BLUE, GREY, ORANGE
from assay.callbacks.drawings.confusion_matrix import (
    NORMALIZATIONS,
    _colours,
    _compact,
    _percent,
    _scale_entries,
    draw_confusion_by_group,
    draw_confusion_matrix,
    draw_label_matrix,
)

TITLE = ["valid confusion matrix, epoch 1", "12 samples, 50% right"]
LONG = "a very long name of a class that never ends " * 3


def matrix(classes):
    counts = np.random.poisson(3, (classes, classes))
    counts[np.arange(classes), np.arange(classes)] += 500
    return counts


def numbers(classes):
    return [str(i) for i in range(classes)]


def sheet_of(classes):
    """The layout of a matrix with these names, by which its cells are found."""
    return MatrixSheet(
        (numbers(classes),) * 2,
        ("true", "predicted →"),
        TITLE,
        row_height=100 if classes < 5 else None,
        right=["recall", "total"],
        below={"precision": ["90%"], "total": ["90"]},
    )


def colour_at(picture, sheet, row, column):
    """The colour in the corner of a cell, where no number stands."""
    left, top, _, _ = sheet.box(row, column)
    return tuple(picture[top + 1, left + 1].tolist())


def draw(*arguments, function=draw_confusion_matrix, **options):
    """Return the picture and its texts, after the check that a card shows them."""
    with recorded_texts() as texts:
        picture = function(*arguments, **options)
    check_texts(picture, texts)
    return picture, [text for text, _ in texts]


def is_white(part):
    return (part == 255).all()


@pytest.mark.parametrize("classes", [2, 3, 10, 20, 21, 40, 41, 200, 1000])
@pytest.mark.parametrize("name", ["{}", LONG], ids=["short", "long"])
def test_nothing_is_cut_off_and_all_is_legible_at_any_number_of_classes(classes, name):
    picture, _ = draw(matrix(classes), [name.format(i) for i in range(classes)], TITLE)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (700, 3)
    assert picture.shape[0] < 1100
    assert all(is_white(edge) for edge in (picture[:4], picture[-4:], picture[:, :4], picture[:, -2:]))


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
@pytest.mark.parametrize("classes", [3, 50])
def test_cells_have_the_colour_of_their_share_and_errors_a_hue_of_their_own(normalize, classes):
    counts = matrix(classes)
    totals = {"true": counts.sum(1, keepdims=True), "pred": counts.sum(0), "all": counts.sum(), "none": counts.max()}
    picture = draw_confusion_matrix(counts, numbers(classes), TITLE, normalize=normalize)
    shares = counts / totals[normalize]
    sheet = sheet_of(classes)
    for row, column in ((0, 0), (0, 1), (1, 0), (2, 2)):
        full = BLUE if row == column else ORANGE
        assert colour_at(picture, sheet, row, column) == tuple(_colours(shares, full)[row, column].tolist())


def test_a_class_without_samples_is_grey_and_an_empty_cell_white():
    counts = np.array([[5, 0], [0, 0]])
    picture, texts = draw(counts, ["0", "1"], TITLE)
    assert colour_at(picture, sheet_of(2), 0, 1) == (255, 255, 255)
    assert colour_at(picture, sheet_of(2), 1, 0) == colour_at(picture, sheet_of(2), 1, 1) == ABSENT
    assert "-" in texts  # there is neither recall nor precision of class 1


def test_rare_confusions_are_seen():
    rare, none = _colours(np.array([0.002, 0.0]), ORANGE)
    assert (none.astype(int) - rare).max() >= 30


@pytest.mark.parametrize("classes", [100, 200, 400])
def test_a_single_error_among_many_classes_is_seen_in_a_card(classes):
    counts = np.eye(classes, dtype=np.int64) * 100
    counts[classes // 4, 3 * classes // 4] = 40
    view = card_view(draw_confusion_matrix(counts, numbers(classes), TITLE))
    orange = (view.astype(int)[:, :, 2] < view.astype(int)[:, :, 0] - 60)[: view.shape[0] * 2 // 3]
    # Left of the margins, and in the upper right half of the matrix.
    rows, columns = np.nonzero(orange[:, :260])
    assert len(rows) >= 9 and np.ptp(rows) >= 2 and np.ptp(columns) >= 2
    assert np.ptp(rows) <= 6 and np.ptp(columns) <= 6


def test_recall_precision_and_totals_stand_at_the_margins():
    counts = np.array([[8, 2, 0], [1, 9, 10], [0, 0, 30]])
    _, texts = draw(counts, ["cat", "dog", "bird"], TITLE)
    # By hand: recall 8/10, 9/20, 30/30; precision 8/9, 9/11, 30/40; 47 of 60 right.
    assert {"80%", "45%", "100%", "89%", "82%", "75%", "78%"} <= set(texts)
    assert {"10", "20", "30", "9", "11", "40", "60"} <= set(texts)
    assert [text for text in texts if " as " in text] == [
        "dog as bird: 10 of 20",
        "cat as dog: 2 of 10",
        "dog as cat: 1 of 20",
    ]


@pytest.mark.parametrize("classes", [10, 12, 16])
@pytest.mark.parametrize("each", [100, 9_000, 20_000])
def test_totals_of_many_digits_are_written_below_columns_that_are_too_narrow_for_them(classes, each):
    counts = np.diag(each + 20 * np.arange(classes))
    counts[0] += 7 * np.arange(classes)  # so that the totals of columns are not also those of rows
    picture, texts = draw(counts, numbers(classes), TITLE)
    assert {_compact(int(total)) for total in counts.sum(axis=0)} <= set(texts)
    is_grey = (picture[sheet_of(classes).panel.bottom :] == np.array(GREY, np.uint8)).all(axis=2)
    assert not cv2.erode(is_grey.astype(np.uint8), np.ones((5, 5))).any()  # no bar
    assert is_white(picture[-4:])


def test_margins_without_room_for_numbers_are_bars():
    counts = np.zeros((100, 100), dtype=np.int64)
    counts[np.arange(100), np.arange(100)] = 50
    counts[np.arange(100), (np.arange(100) + 1) % 100] = 50
    picture, sheet = draw_confusion_matrix(counts, numbers(100), TITLE), sheet_of(100)
    left, top, right, _ = sheet.box(50, 100)
    row = picture[top + 1, left:right]
    blue, orange = ((row == np.array(colour, np.uint8)).all(axis=1).sum() for colour in (BLUE, ORANGE))
    assert blue == orange == (right - left - 8) // 2


@pytest.mark.parametrize(("classes", "has_numbers"), [(3, True), (10, True), (12, True), (60, False)])
def test_numbers_stand_in_the_cells_where_there_is_room(classes, has_numbers):
    counts = np.full((classes, classes), 7)
    left, top, right, bottom = sheet_of(classes).box(0, 1)
    cell = draw_confusion_matrix(counts, numbers(classes), TITLE)[top:bottom, left:right].reshape(-1, 3)
    assert (len(np.unique(cell, axis=0)) > 1) == has_numbers


@pytest.mark.parametrize("labels", [1, 3, 4, 80])
@pytest.mark.parametrize("normalize", ["true", "none"])
def test_labels_are_rows_of_four_outcomes(labels, normalize):
    counts = np.random.randint(1, 90, (labels, 2, 2))
    names = [f"label {i}" for i in range(labels)]
    picture, texts = draw(counts, names, TITLE, function=draw_label_matrix, normalize=normalize)
    total = counts.sum(axis=2, keepdims=True) if normalize == "true" else counts.max()
    shares = (counts / total).reshape(-1, 4)
    # Each colour of a row stands in it: right, error, error, right.
    for row in {0, labels - 1}:
        for column, full in enumerate((BLUE, ORANGE, ORANGE, BLUE)):
            colour = _colours(shares[row, column : column + 1], full)[0]
            assert (picture == colour).all(axis=2).any()
    assert {"precision", "recall"} <= set(texts)
    assert is_white(picture[-4:])


@pytest.mark.parametrize(("classes", "groups"), [(2, 3), (10, 3), (2, 40), (200, 4)])
def test_groups_are_parts_of_the_rows_with_a_line_between_them(classes, groups):
    counts = np.stack([matrix(classes) for _ in range(groups)])
    names = [f"camera {i}" for i in range(groups)]
    picture, texts = draw(counts, numbers(classes), names, TITLE, function=draw_confusion_by_group)
    assert is_white(picture[-4:])
    assert {"recall", "total", "true ↓"} <= set(texts)
    dark = (picture == np.array((30, 30, 30), np.uint8)).all(axis=2)[:, 150:400].all(axis=1)
    assert dark.sum() == 4 * (groups - 1)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_matrix_without_samples_is_drawn(normalize):
    picture, _ = draw(np.zeros((3, 3), dtype=np.int64), ["a", "b", "c"], TITLE, normalize=normalize)
    assert colour_at(picture, sheet_of(3), 1, 1) == ABSENT


def test_classes_that_share_a_cell_keep_their_errors_apart():
    counts = np.zeros((1000, 1000), dtype=np.int64)
    counts[0, 1] = 10  # within the first cell, and no hit
    counts[999, 999] = 10
    _, texts = draw(counts, numbers(1000), TITLE)
    assert "each cell is 3 x 3 classes" in texts
    assert "0 as 1: 10 of 10" in texts
    assert "50%" in texts


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
    assert [index for index, _ in _marks(numbers(count), cell, 34, 1)] == list(range(0, count, step))


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
