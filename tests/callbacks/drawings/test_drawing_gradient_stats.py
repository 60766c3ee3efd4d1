import numpy as np
import pytest
from legibility import card_view, check_texts, recorded_texts, seen_apart

from assay.callbacks.drawings.canvas.theme import BLUE, INK, PALE_BLUE
from assay.callbacks.drawings.gradient_stats import _HEALTHY, BROKEN, MISSING, ZERO, _norm_colours, draw_flow, draw_map


def names_of(count):
    return [f"encoder.stages.{index}.blocks.attention.projection.a_long_name.weight" for index in range(count)]


def is_colour(picture, colour):
    return (picture == np.array(colour, np.uint8)).all(axis=-1)


def area(picture, colour):
    """Number of pixels of a colour above the legend."""
    return int(is_colour(picture[:-108], colour).sum())


def drawn(function, *arguments):
    """Return the picture and its texts, after the check that a card shows them."""
    with recorded_texts() as texts:
        picture = function(*arguments)
    check_texts(picture, texts)
    return picture, [text for text, _ in texts]


def stats_of(norms, broken=()):
    norms = np.asarray(norms, dtype=float)
    stats = {"min": -norms / 2, "mean": norms / 20, "max": norms / 3, "std": norms / 5, "norm": norms}
    stats["zeros"] = np.where(np.isnan(norms), np.nan, (norms == 0).astype(float))
    stats["broken_steps"] = np.isin(np.arange(len(norms)), broken).astype(float)
    stats["non_finite"] = np.where(stats["broken_steps"] > 0, 0.5, 0.0)
    return stats


@pytest.mark.parametrize("count", [1, 6, 20, 21, 161, 1000])
def test_pictures_are_legible_in_a_card_at_any_number_of_parameters(count):
    norms = 10.0 ** np.random.uniform(-3, 0, (count, 5))
    for picture, texts in (
        drawn(draw_map, norms, names_of(count), range(1, 6), ["title"]),
        drawn(draw_flow, stats_of(norms[:, 0], broken=[0]), names_of(count), ["title"]),
    ):
        assert picture.dtype == np.uint8 and picture.shape[1:] == (700, 3)
        assert picture.shape[0] <= 3000
        named = [text for text in texts if "weight" in text or " … " in text]
        assert len(set(named)) == min(count, 20)
        assert named[0].startswith("✗") == ("norm" in texts)


def test_all_parameters_of_a_module_are_seen_in_a_card():
    names = [f"layer{layer}.{block}.conv.{part}" for layer in range(4) for block in range(5) for part in "abcdefgh"]
    norms = np.ones((160, 2))
    norms[::2] = np.nan
    view = card_view(drawn(draw_map, norms, names, [1, 2], ["title"])[0])
    column = is_colour(view, MISSING)[:-60, 200]
    changes = np.count_nonzero(np.diff(column.astype(int)) == 1)
    assert changes >= 80 - 2  # separators may hide the first pixel of a module


@pytest.mark.parametrize("epochs", [1, 3, 100])
def test_the_map_has_room_for_every_epoch(epochs):
    norms = np.full((6, epochs), np.nan)
    norms[:, ::2] = 0
    picture, texts = drawn(draw_map, norms, list("abcdef"), range(1, epochs + 1), ["title"])
    row = picture[80, :-12]
    changes = np.count_nonzero(np.diff(is_colour(row, ZERO).astype(int)) == 1)
    assert changes == (epochs + 1) // 2
    assert is_colour(row, ZERO).sum() == pytest.approx(540 * ((epochs + 1) // 2) / epochs, abs=40)
    assert "1" in texts


def test_what_is_out_of_the_ordinary_has_its_own_colour_and_a_cross_in_the_map():
    norms = np.ones((4, 2))
    plain, texts = drawn(draw_map, norms, list("abcd"), [1, 2], ["title"])
    assert max(area(plain, colour) for colour in (MISSING, BROKEN)) < 20  # a blend in the letters may be that grey
    assert {"a", "b", "c", "d"} <= set(texts)
    norms[0], norms[1, 0], norms[2] = np.nan, np.inf, 0
    picture, texts = drawn(draw_map, norms, list("abcd"), [1, 2], ["title"])
    assert {"a", "✗ b", "c", "d"} <= set(texts)
    cell = area(picture, BROKEN)
    assert cell > 200 * 40
    assert area(picture, MISSING) == pytest.approx(2 * cell, rel=0.03)
    assert area(picture, ZERO) == pytest.approx(2 * cell, rel=0.03)


def test_colours_of_opposite_meaning_are_apart_for_colour_blind_people_too():
    norms = _norm_colours(np.logspace(-4, 0, 50)[:, None], -4, 0)[:, 0]
    for colour in (BROKEN, MISSING, ZERO):
        assert min(min(seen_apart(colour, norm)) for norm in norms) >= 40
    assert min(seen_apart(BROKEN, MISSING) + seen_apart(BROKEN, ZERO) + seen_apart(MISSING, ZERO)) >= 40


def test_the_map_leaves_little_white_that_would_glare_on_a_dark_page():
    picture, _ = drawn(draw_map, np.ones((160, 3)), names_of(160), [1, 2, 3], ["title"])
    assert (picture == 255).all(axis=2).mean() < 0.6


def test_a_vanishing_net_looks_unlike_a_healthy_one():
    cells = {}
    for name, exponents in (("healthy", np.linspace(-1, -1.2, 20)), ("vanishing", np.linspace(-12, 0, 20))):
        picture = draw_map(10.0 ** exponents[:, None].repeat(3, 1), names_of(20), [1, 2, 3], ["title"])
        rows = 58 + 36 * np.arange(20) + 18
        cells[name] = picture[rows, 400].astype(float)
    assert cells["vanishing"].std(axis=0).max() > 5 * cells["healthy"].std(axis=0).max()


def test_the_range_of_the_flow_grows_with_the_gradient():
    small = draw_flow(stats_of([1e-5] * 5 + [1.0]), names_of(6), ["title"])
    large = draw_flow(stats_of([1.0] * 6), names_of(6), ["title"])
    assert area(large, PALE_BLUE) > 0
    shown = [sum(area(picture[:, :480], colour) for colour in (PALE_BLUE, BLUE, INK)) for picture in (small, large)]
    assert shown[1] > 1.5 * shown[0]


def test_missing_and_broken_parameters_are_marked_in_the_flow():
    plain, _ = drawn(draw_flow, stats_of([1.0, 1.0, 0.5]), list("abc"), ["title"])
    marked, texts = drawn(draw_flow, stats_of([1.0, np.nan, 0.5], broken=[2]), list("abc"), ["title"])
    assert max(area(plain, colour) for colour in (MISSING, BROKEN)) < 20  # a blend in the letters may be that grey
    assert area(marked, MISSING) > 150 * 40
    assert area(marked, BROKEN) > 8 * 40
    assert {"a", "b", "✗ c", "NaN"} <= set(texts)


@pytest.mark.parametrize("value", [0.0, np.nan, 1e-30, 1e30])
def test_extreme_values_are_drawn(value):
    assert draw_flow(stats_of([value, value]), names_of(2), ["title"]).shape[1:] == (700, 3)
    assert draw_map(np.array([[value], [1.0]]), names_of(2), [1], ["title"]).shape[1:] == (700, 3)
    assert draw_map(np.array([[value]]), names_of(1), [1], ["title"]).shape[1:] == (700, 3)


def test_a_long_name_keeps_its_last_parts():
    _, texts = drawn(draw_map, np.ones((2, 2)), ["a.very.long.path.to.the.block.weight", "x" * 300], [1, 2], ["t"])
    assert any(text.startswith("…") and text.endswith("block.weight") for text in texts)
    assert any(text.startswith("xx") and "…" in text for text in texts)


def test_the_share_of_values_that_are_not_finite_is_drawn_and_all_of_it_while_it_is_not_known():
    stats = stats_of([1.0] * 3, broken=[1, 2])
    stats["non_finite"][2] = np.nan
    picture, _ = drawn(draw_flow, stats, list("abc"), ["title"])
    # Right of the marks before the range.
    lengths = is_colour(picture, BROKEN)[:-108, 300:].sum(axis=1)
    known, unknown = sorted({int(length) for length in lengths if length})
    assert unknown == pytest.approx(2 * known, abs=2)


def test_update_ratios_are_marked_within_and_outside_of_the_healthy_range():
    stats = stats_of([1.0] * 5)
    stats["update_ratio"] = np.array([1e-3, 1e-6, 1.0, 0.0, np.nan])
    panel = draw_flow(stats, names_of(5), ["title"])[:, 545:]
    rows = [panel[58 + 30 + 44 * index + 20] for index in range(5)]
    healthy, blue = is_colour(rows[4], _HEALTHY), is_colour(rows[0], BLUE)
    assert healthy.any() and healthy[blue.argmax()]
    marks = [np.flatnonzero(is_colour(row, BLUE)) for row in rows]
    assert marks[1].max() < marks[0].min() < marks[0].max() < marks[2].min()
    assert marks[3].size == marks[4].size == 0
    assert is_colour(rows[3], ZERO).any()
