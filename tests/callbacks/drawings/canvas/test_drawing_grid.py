import time

import numpy as np
import pytest

from assay.callbacks.drawings.canvas import grid
from assay.callbacks.drawings.canvas.fonts import DEJAVU, font_of
from assay.callbacks.drawings.canvas.grid import Card, draw_grid, list_names, shorten
from assay.callbacks.drawings.canvas.theme import GREEN, GREY, RED

CELL, FRAME, MARGIN = 144 + 2 * 4 + 10, 4, 10


def cards(count, lines=("id", "true: 1"), colour=GREY, level=77):
    return [Card(np.full((8, 8, 3), level, dtype=np.uint8), lines, colour) for _ in range(count)]


def heading(title):
    return MARGIN + 23 * len(title)


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (3, 2, 2), (16, 4, 4), (64, 8, 8)])
def test_cards_stand_in_rows_as_near_to_a_square_as_they_go(count, columns, rows):
    picture = draw_grid(cards(count), ["a title"])
    cell_height = 152 + 2 * 18 + 10
    assert picture.shape == (heading(["a title"]) + rows * cell_height + MARGIN, columns * CELL + 2 * MARGIN, 3)
    assert picture.dtype == np.uint8
    assert (picture == 77).all(axis=2).sum() >= count * 144 * 144


@pytest.mark.parametrize("colour", [GREEN, RED, GREY])
def test_the_frame_has_its_colour_on_all_four_sides_and_the_picture_is_inside(colour):
    picture = draw_grid(cards(2, colour=colour), ["t"])
    top = heading(["t"]) + MARGIN
    for left in (MARGIN, MARGIN + CELL):
        for y, x in ((0, 0), (0, 151), (151, 0), (151, 151), (3, 70), (148, 70), (70, 3), (70, 148)):
            assert tuple(picture[top + y, left + x]) == colour
        for y, x in ((4, 4), (4, 147), (147, 4), (147, 147), (70, 70)):
            assert tuple(picture[top + y, left + x]) == (77, 77, 77)
        assert tuple(picture[top - 1, left]) == tuple(picture[top, left - 1]) == (255, 255, 255)


def test_the_size_does_not_depend_on_the_size_of_the_pictures():
    small = draw_grid([Card(np.zeros((8, 8, 3), dtype=np.uint8), ["a"])], ["t"])
    large = draw_grid([Card(np.zeros((700, 300, 3), dtype=np.uint8), ["a"])], ["t"])
    assert small.shape == large.shape


def test_a_title_that_is_wider_than_the_cards_is_not_cut_off():
    title = "worst valid batch by a_metric_with_a_very_long_name: 0.1234  NOT FINITE"
    picture = draw_grid(cards(1), [title])
    ink = np.nonzero((picture[: heading([title])] < 200).any(axis=(0, 2)))[0]
    assert picture.shape[1] - MARGIN <= ink.max() + 3
    assert ink.max() < picture.shape[1] - MARGIN + 2
    assert ink.min() >= MARGIN - 1


def test_a_grid_without_title_is_drawn():
    assert draw_grid(cards(1), []).shape[0] == MARGIN + 152 + 36 + 10 + MARGIN


def test_the_bar_of_a_scale_runs_from_black_to_yellow_below_the_title():
    plain, picture = draw_grid(cards(2), ["t"]), draw_grid(cards(2), ["t"], scale=("0", "largest"))
    assert picture.shape[0] == plain.shape[0] + 18
    row = picture[heading(["t"]) + 8].astype(int)
    dark, bright = int(row.sum(axis=1).argmin()), int((row[:, 0] - row[:, 2]).argmax())
    assert MARGIN < dark < bright < picture.shape[1] - MARGIN
    assert row[dark].max() < 10
    assert 85 <= bright - dark <= 96 or row[dark + 95, 0] > 240


def test_a_long_caption_stays_within_its_card():
    lines = ["/a/very/long/path/" * 20, "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", "ok"]
    picture = draw_grid(cards(2, lines=lines), [])
    captions = picture[MARGIN + MARGIN + 152 :]
    inked = (captions < 200).any(axis=2)
    assert inked.any()
    assert not inked[:, MARGIN + 153 : MARGIN + CELL - 1].any()
    assert not inked[:, MARGIN + CELL + 153 :].any()


def test_marked_lines_are_written_in_the_colour_of_the_frame():
    card = Card(np.zeros((8, 8, 3), dtype=np.uint8), ["plain", "MMMM"], RED, [1])
    picture = draw_grid([card], [])
    top = MARGIN + MARGIN + 152
    lines = [picture[top + 1 + 18 * index : top + 18 * (index + 1)].reshape(-1, 3) for index in range(2)]
    assert not (lines[0] == RED).all(axis=1).any()
    assert (lines[1] == RED).all(axis=1).any()


@pytest.mark.parametrize("width", [40, 152, 400])
@pytest.mark.parametrize("text", ["short", "W" * 80, "i" * 200, "/data/train/n01440764/n01440764_10026.JPEG" * 3, ""])
def test_a_shortened_text_fits_its_width_and_keeps_as_much_as_possible(text, width):
    font = font_of(DEJAVU, 13)
    result = shorten(text, width)
    assert font.getlength(result) <= width
    if result == text:
        return
    head, tail = result.split("…")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert 0 <= len(head) - len(tail) <= 1
    keep = len(head) + len(tail) + 1
    longer = f"{text[: -(-keep // 2)]}…{text[len(text) - keep // 2 :]}"
    assert font.getlength(longer) > width


def test_a_very_long_id_is_shortened_at_once():
    # each measurement of the text takes time in proportion to its length: one for each character took 9 s
    start = time.perf_counter()
    assert len(shorten("a" * 3000, 152)) < 40
    assert time.perf_counter() - start < 1.0


def test_a_text_of_several_lines_becomes_one():
    assert shorten("two\nlines", 152) == "two lines"
    picture = draw_grid(cards(1, lines=["two\nlines"]), ["t"])
    assert np.array_equal(picture, draw_grid(cards(1, lines=["two lines"]), ["t"]))


def test_letters_beyond_ascii_have_shapes_of_their_own():
    font = font_of(DEJAVU, 13)
    missing = bytes(font.getmask("\uffff"))
    shapes = {bytes(font.getmask(letter)) for letter in "äßéøñЖλ…"}
    assert len(shapes) == 8
    assert missing not in shapes


def test_several_pictures_stand_side_by_side_in_one_frame():
    pictures = [np.full((8, 8, 3), level, dtype=np.uint8) for level in (10, 20, 30)]
    drawn = draw_grid([Card(pictures, ["a"], GREEN)], [])
    for index, level in enumerate((10, 20, 30)):
        left = MARGIN + FRAME + index * (144 + FRAME)
        tile = drawn[2 * MARGIN + FRAME : 2 * MARGIN + FRAME + 144, left : left + 144]
        assert (tile == level).all()
        assert (drawn[2 * MARGIN + 50, left - FRAME : left] == GREEN).all()


def test_the_legend_shows_what_fits_and_counts_the_rest():
    few = draw_grid(cards(1), [], legend=[("a", (1, 2, 3))])
    assert tuple(few[MARGIN + 5, MARGIN + 5]) == (1, 2, 3)
    assert few.shape[0] == draw_grid(cards(1), []).shape[0] + 18
    many = draw_grid(cards(9), ["t"], legend=[(f"a class {i}", (i, 0, 200)) for i in range(200)])
    assert many.shape[0] == draw_grid(cards(9), ["t"]).shape[0] + 3 * 18
    placed = grid._place_legend([(f"a class {i}", (i, 0, 200)) for i in range(200)], 500)
    shown = sum(colour is not None for _, colour, _, _ in placed)
    assert placed[-1][0] == f"+{200 - shown} more"
    assert all(left + 16 * (c is not None) + font_of(DEJAVU, 13).getlength(t) <= 500 for t, c, _, left in placed)


@pytest.mark.parametrize(
    ("names", "width", "text"),
    [
        (["a", "b"], 200, "missed: a, b"),
        (["cat", "dog", "crocodile", "elephant"], 180, "missed: cat, dog +2 more"),
        (["a very long name of a class"], 120, "missed: a ve…ass"),
        (["a very long name of a class", "b", "c"], 160, "missed: a …ss +2 more"),
    ],
)
def test_names_that_find_no_room_are_counted(names, width, text):
    found = list_names("missed", names, width)
    assert font_of(DEJAVU, 13).getlength(found) <= width
    assert found == text


def test_sixteen_small_cards_are_drawn_in_a_few_milliseconds():
    lines = [[f"s{i}", "true: 1", "pred: 2", f"loss: {i}"] for i in range(16)]
    times = []
    for _ in range(5):
        start = time.perf_counter()
        draw_grid([Card(np.zeros((8, 8, 3), dtype=np.uint8), line) for line in lines], ["t"])
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
