import numpy as np
import pytest

from assay.callbacks.drawings.canvas.theme import BLUE
from assay.callbacks.drawings.gradient_stats import _PALE_GREEN, BROKEN, MISSING, ZERO, draw_flow, draw_map

PALE_BLUE = (160, 190, 240)


def names_of(count):
    return [f"encoder.stages.{index}.blocks.attention.projection.a_long_name.weight" for index in range(count)]


LEFT = 412  # of what is drawn beside long names


def area(picture, colour, right):
    """Number of pixels of a colour in the rows of the parameters, left of ``right``: beside all text."""
    return int((picture[51:-54, LEFT - 8 : right] == np.array(colour, np.uint8)).all(axis=2).sum())


def stats_of(norms, broken=()):
    norms = np.asarray(norms, dtype=float)
    stats = {"min": -norms / 2, "mean": norms / 20, "max": norms / 3, "std": norms / 5, "norm": norms}
    stats["zeros"] = np.where(np.isnan(norms), np.nan, (norms == 0).astype(float))
    stats["broken_steps"] = np.isin(np.arange(len(norms)), broken).astype(float)
    stats["non_finite"] = np.where(stats["broken_steps"] > 0, 0.5, 0.0)
    return stats


@pytest.mark.parametrize("count", [1, 6, 41, 160])
def test_pictures_are_rgb_and_of_a_bounded_size(count):
    norms = 10.0 ** np.random.uniform(-3, 0, (count, 5))
    for picture in (
        draw_map(norms, names_of(count), range(1, 6), ["title"]),
        draw_flow(stats_of(norms[:, 0]), names_of(count), ["title"]),
    ):
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
        assert picture.shape[0] <= 1300 and 600 <= picture.shape[1] <= 1200


@pytest.mark.parametrize("epochs", [1, 3, 100])
def test_the_map_has_room_for_every_epoch(epochs):
    picture = draw_map(np.full((6, epochs), np.nan), names_of(6), range(1, epochs + 1), ["title"])
    cell = min(40, max(6, 640 // epochs))
    assert area(picture, MISSING, LEFT + max(epochs * cell, 60)) == 6 * 18 * epochs * cell


def test_what_is_out_of_the_ordinary_has_its_own_colour_in_the_map():
    norms = np.ones((4, 2))
    plain = draw_map(norms, names_of(4), [1, 2], ["title"])
    assert [area(plain, colour, LEFT + 80) for colour in (MISSING, BROKEN)] == [0, 0]
    norms[0], norms[1, 0], norms[2] = np.nan, np.inf, 0
    picture = draw_map(norms, names_of(4), [1, 2], ["title"])
    cell = 18 * 40
    assert area(picture, MISSING, LEFT + 80) == 2 * cell
    assert area(picture, BROKEN, LEFT + 80) == cell
    assert area(picture, ZERO, LEFT + 80) == 2 * cell


def test_a_vanishing_net_looks_unlike_a_healthy_one():
    rows = slice(51, 51 + 18 * 20)
    cells = {}
    for name, exponents in (("healthy", np.linspace(-1, -1.2, 20)), ("vanishing", np.linspace(-12, 0, 20))):
        picture = draw_map(10.0 ** exponents[:, None].repeat(3, 1), names_of(20), [1, 2, 3], ["title"])
        cells[name] = picture[rows, LEFT + 38].astype(float)
    assert cells["vanishing"].std(axis=0).max() > 5 * cells["healthy"].std(axis=0).max()


def test_the_range_of_the_flow_grows_with_the_gradient():
    small = draw_flow(stats_of([1e-5] * 5 + [1.0]), names_of(6), ["title"])
    large = draw_flow(stats_of([1.0] * 6), names_of(6), ["title"])
    assert area(large, PALE_BLUE, LEFT + 380) > 0
    dark = [int((picture != 255).any(axis=2)[:, LEFT : LEFT + 378].sum()) for picture in (small, large)]
    assert dark[1] > 1.5 * dark[0]


def test_missing_and_broken_parameters_are_marked_in_the_flow():
    plain = draw_flow(stats_of([1.0, 1.0, 0.5]), names_of(3), ["title"])
    marked = draw_flow(stats_of([1.0, np.nan, 0.5], broken=[2]), names_of(3), ["title"])
    assert area(plain, MISSING, LEFT + 380) == area(plain, BROKEN, LEFT + 380) == 0
    assert area(marked, MISSING, LEFT + 380) > 380 * 14
    assert area(marked, BROKEN, LEFT + 380) > 4 * 14


@pytest.mark.parametrize("value", [0.0, np.nan, 1e-30, 1e30])
def test_extreme_values_are_drawn(value):
    assert draw_flow(stats_of([value, value]), names_of(2), ["title"]).size
    assert draw_map(np.array([[value], [1.0]]), names_of(2), [1], ["title"]).size
    assert draw_map(np.array([[value]]), names_of(1), [1], ["title"]).size


def test_the_names_have_a_column_as_wide_as_they_need_within_limits():
    short, tiny, long, longer = (
        draw_map(np.ones((2, 2)), [letter * count, "b"], [1, 2], ["title"])
        for letter, count in (("a", 9), ("a", 1), ("a", 300), ("c", 200))
    )
    assert np.array_equal(short[:, LEFT - 150 :], tiny[:, LEFT - 150 :])
    assert np.array_equal(long[:, LEFT:], longer[:, LEFT:])
    assert np.array_equal(short[60:90, LEFT - 150 : LEFT - 70], long[60:90, LEFT : LEFT + 80])


@pytest.mark.parametrize("count", [3, 60])
def test_the_share_of_values_that_are_not_finite_has_a_panel_of_its_own(count):
    plain = draw_flow(stats_of([1.0] * count), names_of(count), ["title"])
    stats = stats_of([1.0] * count, broken=[1, 2])
    stats["non_finite"][2] = np.nan  # not counted
    marked = draw_flow(stats, names_of(count), ["title"])
    assert marked.shape[1] == plain.shape[1] + 150
    bars = (marked[51:-54, plain.shape[1] :] == np.array(BROKEN, np.uint8)).all(axis=2).any(axis=0).sum()
    assert bars == pytest.approx(0.5 * 70, abs=2)


def test_update_ratios_are_marked_within_and_outside_of_the_healthy_range():
    stats = stats_of([1.0] * 5)
    plain = draw_flow(stats, names_of(5), ["title"])
    stats["update_ratio"] = np.array([1e-3, 1e-6, 1.0, 0.0, np.nan])
    panel = draw_flow(stats, names_of(5), ["title"])[:, plain.shape[1] :]
    assert panel.shape[1] == 190
    rows = [panel[51 + 18 * index + 9] for index in range(5)]
    green, blue = (
        (row == np.array(colour, np.uint8)).all(axis=1) for row, colour in ((rows[4], _PALE_GREEN), (rows[0], BLUE))
    )
    assert green.any() and green[blue.argmax()]
    marks = [np.flatnonzero((row == np.array(BLUE, np.uint8)).all(axis=1)) for row in rows]
    assert marks[1].max() < marks[0].min() < marks[0].max() < marks[2].min()
    assert marks[3].size == marks[4].size == 0
    assert (rows[3] == 0).all(axis=1).any()
