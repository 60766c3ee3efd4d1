import numpy as np
import pytest

from assay.callbacks.drawings.canvas.chart import Chart, Panel
from assay.callbacks.drawings.canvas.theme import BLUE, ORANGE
from assay.callbacks.drawings.prediction_distribution import MOST_CHARTS, draw_distribution


def draw(count, names=None, shares=None, bounds=(0.25, 0.75), totals=None, threshold=0.4):
    if shares is None:
        shares = np.random.rand(count, 2, 40)
        shares /= shares.sum(axis=2, keepdims=True)
    totals = np.full((count, 2), 1000) if totals is None else totals
    undecided = shares[:, :, 10:30].sum(axis=2)
    names = names or [f"class {index}" for index in range(count)]
    return draw_distribution(shares, totals, np.full(count, threshold), undecided, names, "valid", bounds=bounds)


@pytest.mark.parametrize("count", [1, 2, 3, 10, MOST_CHARTS, MOST_CHARTS + 1, 200, 1000])
def test_every_number_of_classes_fits_a_picture_of_moderate_size(count):
    picture = draw(count)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    assert picture.shape[0] <= 1400
    assert picture.shape[1] <= 1300


def test_long_names_do_not_widen_the_picture():
    for count in (2, 10, 200):
        assert draw(count).shape == draw(count, ["name " * 100] * count).shape
    assert draw(1, ["a", "b"]).shape == draw(1, ["name " * 100] * 2).shape


def test_two_classes_of_one_score_are_one_chart():
    assert draw(1, ["a", "b"]).shape != draw(1, ["a"]).shape


def test_rare_positives_are_as_high_as_frequent_negatives():
    shares = np.zeros((1, 2, 40))
    shares[0, 0, 2], shares[0, 1, 37] = 1, 1
    picture = draw(1, ["a", "b"], shares, totals=np.array([[10**6, 10]])).astype(int)
    left, right = (picture[150:350, 60 + 15 * index + 7] for index in (2, 37))
    assert (np.abs(left - left[0]).sum(axis=1) < 130).all()  # one bar each, up to the top, over lines of the grid
    assert (np.abs(right - right[0]).sum(axis=1) < 130).all()
    assert left[0, 2] > left[0, 0]
    assert right[0, 0] > right[0, 2]


@pytest.mark.parametrize(("count", "names"), [(1, ["a", "b"]), (1, ["a"]), (3, None), (50, None)])
def test_no_sample_and_no_threshold_are_drawn(count, names):
    shares = np.full((count, 2, 40), np.nan)
    assert draw(count, names, shares, totals=np.zeros((count, 2), int), threshold=np.nan).ndim == 3


def test_the_bounds_are_shown():
    shares = np.full((1, 2, 40), 1 / 40)
    assert not np.array_equal(draw(1, ["a", "b"], shares), draw(1, ["a", "b"], shares, bounds=(0.1, 0.9)))


def test_a_row_of_the_map_is_in_the_colour_of_its_share():
    shares = np.zeros((100, 2, 40))
    shares[:, :, 0] = 1
    shares[50, 1, 0], shares[50, 1, 20] = 0, 1
    picture = draw(100, shares=shares)
    orange = (picture == ORANGE).all(axis=2)
    rows = orange[:, 562:570].any(axis=1)
    assert rows[100:900].sum() >= 800 - 2 * 9 - 20  # the whole column but one row
    assert orange[:, 562 + 8 * 20 : 562 + 8 * 21].sum() == 9 * 8


def test_the_curves_of_a_chart_keep_their_ends():
    chart, panel = Chart((200, 200), ["title"]), Panel(50, 50, 100, 100)
    line = np.linspace(0, 1, 10_000)
    chart.lines(panel, [(line, line)], [BLUE])
    pixels = np.array(chart.canvas).astype(int)
    for row, column in ((150, 50), (50, 150), (100, 100)):
        assert np.abs(pixels[row, column] - BLUE).sum() < 160
