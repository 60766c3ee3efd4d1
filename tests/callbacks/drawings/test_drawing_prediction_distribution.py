import numpy as np
import pytest
from legibility import card_view, check_texts, recorded_texts

from assay.callbacks.drawings.canvas.theme import BLUE, INK, ORANGE
from assay.callbacks.drawings.prediction_distribution import MOST_CHARTS, draw_distribution


def draw(count, names=None, shares=None, bounds=(0.25, 0.75), totals=None, threshold=0.4):
    if shares is None:
        shares = np.random.rand(count, 2, 40)
        shares /= shares.sum(axis=2, keepdims=True)
    totals = np.full((count, 2), 1000) if totals is None else totals
    undecided = shares[:, :, 10:30].sum(axis=2)
    names = names or [f"class {index}" for index in range(count)]
    return draw_distribution(shares, totals, np.full(count, threshold), undecided, names, "valid", bounds=bounds)


def is_colour(picture, colour):
    return (picture == np.array(colour, np.uint8)).all(axis=-1)


@pytest.mark.parametrize("count", [1, 2, 3, 10, MOST_CHARTS, MOST_CHARTS + 1, 200, 1000])
def test_every_number_of_classes_is_legible_in_a_card(count):
    with recorded_texts() as texts:
        picture = draw(count)
    check_texts(picture, texts)
    assert picture.dtype == np.uint8
    assert picture.shape[1:] == (700, 3)
    assert picture.shape[0] <= 1400


@pytest.mark.parametrize("count", [1, 10, MOST_CHARTS])
def test_each_class_is_seen_in_a_card_as_a_filled_area_of_both_colours(count):
    shares = np.zeros((count, 2, 40))
    shares[:, 0, :20], shares[:, 1, 20:] = 1 / 20, 1 / 20
    view = card_view(draw(count, ["a", "b"] if count == 1 else None, shares, threshold=np.nan))
    # Right of the names, below the legend.
    for colour, columns in ((BLUE, slice(100, 160)), (ORANGE, slice(250, 330))):
        rows = is_colour(view, colour)[60:, columns].mean(axis=1) > 0.9
        areas = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], rows, [0]]))))[::2]
        assert len(areas) == count
        assert (areas >= 3).all()


def test_long_names_do_not_widen_the_picture():
    for count in (2, 10, 200):
        assert draw(count).shape == draw(count, ["name " * 100] * count).shape
    assert draw(1, ["a", "b"]).shape == draw(1, ["name " * 100] * 2).shape


def test_two_classes_of_one_score_are_one_chart():
    assert draw(1, ["a", "b"]).shape == draw(1, ["a"]).shape
    with recorded_texts() as texts:
        draw(1, ["cat", "dog"])
    assert {"true cat: 1,000", "true dog: 1,000", "probability of dog"} <= {text for text, _ in texts}


def test_rare_positives_are_as_high_as_frequent_negatives():
    shares = np.zeros((1, 2, 40))
    shares[0, 0, 2], shares[0, 1, 37] = 1, 1
    picture = draw(1, ["a", "b"], shares, totals=np.array([[10**6, 10]]))[120:]
    heights = [
        int(is_colour(picture, colour)[:, columns].any(axis=1).sum())
        for colour, columns in ((BLUE, slice(40, 90)), (ORANGE, slice(620, 660)))
    ]
    assert heights[0] == heights[1] > 140


def test_a_rare_probability_is_still_seen():
    shares = np.zeros((10, 2, 40))
    shares[:, :, 0], shares[:, 1, 0], shares[:, 1, 38] = 1, 0.9999, 0.0001
    view = card_view(draw(10, shares=shares))
    assert is_colour(view, ORANGE)[60:, 318:330].any(axis=1).sum() == 10 * 3


@pytest.mark.parametrize(("count", "names"), [(1, ["a", "b"]), (1, ["a"]), (3, None), (50, None)])
def test_no_sample_and_no_threshold_are_drawn(count, names):
    shares = np.full((count, 2, 40), np.nan)
    picture = draw(count, names, shares, totals=np.zeros((count, 2), int), threshold=np.nan)
    assert picture.shape[1:] == (700, 3)


def test_the_bounds_are_shown():
    shares = np.full((1, 2, 40), 1 / 40)
    assert not np.array_equal(draw(1, ["a", "b"], shares), draw(1, ["a", "b"], shares, bounds=(0.1, 0.9)))


def test_the_threshold_is_a_mark_at_its_probability():
    shares = np.zeros((1, 2, 40))
    shares[:, :, 0] = 1
    marks = [is_colour(draw(1, ["a", "b"], shares, threshold=value)[180:440], INK).all(axis=0) for value in (0.5, 0.9)]
    columns = [np.flatnonzero(mark).mean() for mark in marks]
    assert all(mark.sum() == 7 for mark in marks)
    assert columns[1] - columns[0] == pytest.approx(0.4 * 664, abs=2)


def test_the_rows_of_the_map_begin_with_the_worst_class_and_have_the_colour_of_its_shares():
    shares = np.zeros((100, 2, 40))
    shares[:, 0, 0], shares[:, 1, 39] = 1, 1
    shares[50, 1, 39], shares[50, 1, 0] = 0, 1
    with recorded_texts() as texts:
        picture = draw(100, shares=shares)
    names = [text for text, _ in texts if text.startswith("class ")]
    assert names[0] == "class 50"
    orange, blue = (is_colour(picture, colour)[135:945] for colour in (ORANGE, BLUE))
    # One row of 8 pixels at the left end, and all others at the right end.
    left, right = (orange[:, 440 + shift : 444 + shift].all(axis=1) for shift in (1, 235))
    assert left.sum() == 8 and right.sum() == 99 * 8
    assert left.argmax() < right.argmax()
    assert blue[:, 174:176].all(axis=1).sum() == 800
