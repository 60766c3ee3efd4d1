"""Colours of opposite meaning are told apart with every kind of eyes."""

import numpy as np
import pytest
from legibility import DEUTERANOPIA, PROTANOPIA, card_view, find_line, recorded_texts, seen_apart, simulate, text_height

from assay.callbacks.drawings.canvas import theme
from assay.callbacks.drawings.canvas.grid import Card, draw_grid

OPPOSITE = [
    ("HIT", "MISSED"),
    ("HIT", "FALSE"),
    ("MISSED", "FALSE"),
    ("RIGHT", "WRONG"),
    ("BLUE", "ORANGE"),
    ("GREEN", "RED"),
]


@pytest.mark.parametrize(("first", "second"), OPPOSITE)
def test_colours_of_opposite_meaning_are_apart_for_colour_blind_people_too(first, second):
    assert min(seen_apart(getattr(theme, first), getattr(theme, second))) >= 40


@pytest.mark.parametrize("kind", [DEUTERANOPIA, PROTANOPIA], ids=["deuteranopia", "protanopia"])
def test_the_simulation_leaves_greys_and_makes_a_red_like_a_green(kind):
    greys = np.arange(0, 256, 5)[:, None].repeat(3, axis=1)
    assert np.abs(simulate(greys, kind) - greys).max() < 0.5
    # The green and the red of traffic lights, which everyone else sees far apart.
    most, *_ = seen_apart((34, 139, 60), (205, 38, 38))
    assert most > 100
    red, green = simulate(np.array([[205, 38, 38], [34, 139, 60]]), kind)
    assert np.ptp(red[:2]) < 65 and np.ptp(green[:2]) < 40


def test_the_distance_is_that_of_cielab():
    # From black to white lightness goes from 0 to 100, and greys have no hue.
    assert seen_apart((0, 0, 0), (255, 255, 255)) == pytest.approx([100] * 3, abs=0.05)
    # sRGB's red is at L 53.24, a 80.09, b 67.20, its green at 87.73, -86.18, 83.18.
    distance = np.linalg.norm(np.array([53.24, 80.09, 67.20]) - np.array([87.73, -86.18, 83.18]))
    assert seen_apart((255, 0, 0), (0, 255, 0))[0] == pytest.approx(distance, abs=0.2)


@pytest.mark.parametrize(("width", "thickness", "is_seen"), [(700, 6, True), (700, 3, False), (1400, 6, False)])
def test_a_line_is_found_where_it_is_thick_enough_in_a_card(width, thickness, is_seen):
    picture = np.full((400, width, 3), 255, dtype=np.uint8)
    picture[100 : 100 + thickness, 40 : width - 60] = theme.BLUE
    left, top, right, bottom = find_line(picture, theme.BLUE)
    if not is_seen:
        assert (left, top, right, bottom) == (0, 0, 0, 0)
        return
    assert (left, right) == pytest.approx((40, width - 60), abs=2 * width / 350)
    assert (top, bottom) == pytest.approx((100, 100 + thickness), abs=2 * width / 350)
    assert find_line(picture, theme.ORANGE) == (0, 0, 0, 0)


def test_a_dashed_line_is_one_where_its_gaps_are_allowed():
    picture = np.full((100, 700, 3), 255, dtype=np.uint8)
    for start in range(0, 700, 40):
        picture[40:48, start : start + 20] = theme.MISSED
    assert find_line(picture, theme.MISSED)[2] < 30
    left, _, right, _ = find_line(picture, theme.MISSED, gap=11)
    assert right - left > 650


def test_a_card_shows_every_second_pixel_of_a_picture_of_twice_its_width():
    picture = np.random.randint(0, 256, (90, 700, 3), dtype=np.uint8)
    assert np.array_equal(card_view(picture), picture[1::2, 1::2])
    assert card_view(picture[:, :175]).shape == (180, 350, 3)


def test_texts_are_recorded_with_their_size_also_where_they_were_drawn_before():
    card = Card(np.zeros((8, 8, 3), dtype=np.uint8), ["a caption"])
    for _ in range(2):
        with recorded_texts() as texts:
            picture = draw_grid([card], ["a title"])
        assert {line for line, _ in texts} == {"a caption", "a title"}
    sizes = dict(texts)
    assert sizes["a title"] > sizes["a caption"]
    assert text_height(picture, sizes["a title"]) >= text_height(picture, sizes["a caption"]) > 0
