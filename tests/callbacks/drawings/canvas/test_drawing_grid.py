import time

import numpy as np
import pytest
from legibility import check_texts, find_line, recorded_texts

from assay.callbacks.drawings.canvas import legend
from assay.callbacks.drawings.canvas.captions import break_lines, list_names, shorten
from assay.callbacks.drawings.canvas.fonts import DEJAVU, font_of
from assay.callbacks.drawings.canvas.grid import Card, arrange, draw_grid
from assay.callbacks.drawings.canvas.legend import Entry
from assay.callbacks.drawings.canvas.theme import FALSE, GREY, HIT, MISSED, RIGHT, WRONG

WIDTH, MARGIN, FRAME, GAP, LINE, NOTE, HEADING = 700, 8, 6, 12, 34, 28, 36
# Left edges of the cards by their number in a row, and the side of a tile.
ROWS = {3: ([8, 240, 472], 208), 2: ([8, 360], 320)}


def cards(count, lines=("id", "true: 1"), colour=GREY, level=77, **more):
    return [Card(np.full((8, 8, 3), level, dtype=np.uint8), lines, colour, **more) for _ in range(count)]


def heading(lines, notes=0):
    return MARGIN + HEADING * lines + NOTE * notes + (GAP if lines or notes else 0)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 2, 1), (2, 2, 1), (3, 3, 1), (4, 2, 2), (6, 3, 2), (10, 2, 5), (12, 3, 4)]
)
def test_cards_stand_in_rows_of_one_width(count, columns, rows):
    picture = draw_grid(cards(count), ["a title"])
    lefts, tile = ROWS[columns]
    assert picture.shape == (heading(1) + rows * (tile + 2 * FRAME + 2 * LINE + GAP), WIDTH, 3)
    assert picture.dtype == np.uint8
    assert (picture == 77).all(axis=2).sum() >= count * tile * tile
    row = picture[heading(1) + 60]
    starts = np.flatnonzero((row[1:] == GREY).all(axis=1) & (row[:-1] == 255).all(axis=1)) + 1
    assert starts.tolist() == lefts[: min(count, columns)]


@pytest.mark.parametrize(
    ("cards", "panels", "columns", "across", "tile"),
    [
        (12, 2, 3, 1, 208),
        (2, 2, 2, 1, 320),
        (1, 2, 1, 2, 320),
        (5, 3, 1, 3, 220),
        (12, 4, 2, 2, 157),
        (1, 4, 1, 2, 320),
        (6, 5, 1, 3, 220),
    ],
)
def test_the_pictures_of_a_card_are_as_large_as_they_can_be(cards, panels, columns, across, tile):
    layout = arrange(cards, panels)
    assert (layout.columns, layout.across, layout.tile) == (columns, across, tile)
    down = -(-panels // across)
    assert layout.card == (across * (tile + FRAME) + FRAME, down * (tile + FRAME) + FRAME)
    assert columns * layout.card[0] + (columns - 1) * GAP <= WIDTH - 2 * MARGIN


@pytest.mark.parametrize(
    ("count", "last"), [(5, [3, 2]), (6, [3, 3]), (7, [2, 2]), (8, [3, 2]), (13, [2, 2]), (16, [2, 2]), (64, [2, 2])]
)
def test_no_card_of_three_columns_stands_alone_in_a_row(count, last):
    picture = draw_grid(cards(count, [], RIGHT), [])
    rows = -(-count // 3)
    assert picture.shape[0] == MARGIN + rows * (220 + GAP)
    seen = [[tuple(picture[MARGIN + row * (220 + GAP), left]) == RIGHT for left in ROWS[3][0]] for row in range(rows)]
    assert [sum(row) for row in seen] == [3] * (rows - 2) + last
    assert all(row == sorted(row, reverse=True) for row in seen)  # from the left


@pytest.mark.parametrize("colour", [RIGHT, WRONG, GREY])
def test_the_frame_has_its_colour_on_all_four_sides_and_the_picture_is_inside(colour):
    picture = draw_grid(cards(3, colour=colour), ["t"])
    top = heading(1)
    for left in ROWS[3][0]:
        for y, x in ((0, 0), (0, 219), (219, 0), (219, 219), (5, 70), (214, 70), (70, 5), (70, 214)):
            assert tuple(picture[top + y, left + x]) == colour
        for y, x in ((6, 6), (6, 213), (213, 6), (213, 213), (70, 70)):
            assert tuple(picture[top + y, left + x]) == (77, 77, 77)
        assert tuple(picture[top - 1, left]) == tuple(picture[top, left - 1]) == (255, 255, 255)


def test_the_size_depends_on_the_shape_of_the_highest_picture_and_not_on_its_size():
    small = draw_grid([Card(np.zeros((8, 8, 3), dtype=np.uint8), ["a"])], ["t"])
    large = draw_grid([Card(np.zeros((700, 700, 3), dtype=np.uint8), ["a"])], ["t"])
    high = draw_grid([Card(np.zeros((700, 300, 3), dtype=np.uint8), ["a"])], ["t"])
    flat = draw_grid([Card(np.zeros((160, 320, 3), dtype=np.uint8), ["a"])], ["t"])
    assert small.shape == large.shape == high.shape
    assert flat.shape[0] == small.shape[0] - 160
    assert (flat[heading(1) + FRAME : heading(1) + FRAME + 160, 14:334] == 0).all()
    assert (flat[heading(1) + FRAME + 160, 14:334] == GREY).all()


def test_a_long_title_takes_several_lines():
    title = "worst valid batch by a_metric_with_a_very_long_name: 0.1234 of all that were seen  NOT FINITE"
    picture, lines = draw_grid(cards(1), [title]), break_lines(title, WIDTH - 2 * MARGIN, 28)
    assert len(lines) == 3 and " ".join(lines) == " ".join(title.split())
    assert picture.shape[0] == draw_grid(cards(1), ["t"]).shape[0] + 2 * HEADING
    inked = (picture[: heading(3) - GAP] < 200).any(axis=(0, 2))
    assert inked[MARGIN : MARGIN + 4].any() and not inked[WIDTH - MARGIN + 1 :].any()


def test_a_word_that_is_wider_than_a_line_loses_its_middle():
    assert break_lines("a " + "W" * 100, 200, 28) == ["a", shorten("W" * 100, 200, 28)]
    assert break_lines("", 200, 28) == []


def test_a_grid_without_title_is_drawn():
    assert draw_grid(cards(1), []).shape[0] == MARGIN + 332 + 2 * LINE + GAP


def test_the_bar_of_a_scale_runs_from_grey_to_yellow_below_the_title():
    plain, picture = draw_grid(cards(2), ["t"]), draw_grid(cards(2), ["t"], scale=("0", "largest"))
    assert picture.shape[0] == plain.shape[0] + NOTE
    row = picture[MARGIN + HEADING + 14].astype(int)
    start, end = int((row == 128).all(axis=1).argmax()), int((row[:, 0] - row[:, 2]).argmax())
    assert MARGIN < start < end < WIDTH - MARGIN
    assert row[start + 149, 0] > 210 > 160 > row[start + 149, 2]
    assert (row[start + 150] == 255).all() and (np.diff(row[start : start + 150, 0]) >= -1).all()


def test_a_long_caption_stays_within_its_card():
    lines = ["/a/very/long/path/" * 20, "WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", "ok"]
    picture = draw_grid(cards(3, lines=lines, right=False, name="/an/id/" * 20), [])
    inked = (picture[MARGIN + 220 :] < 200).any(axis=2)
    for left in ROWS[3][0]:
        assert inked[:, left : left + 220].any()
        assert not inked[:, left + 221 : left + 231].any()


def test_marked_lines_are_written_in_the_colour_of_the_frame():
    picture = draw_grid([Card(np.zeros((8, 8, 3), dtype=np.uint8), ["plain", "MMMM"], WRONG, [1])], [])
    top = MARGIN + 332
    lines = [picture[top + 1 + LINE * index : top + LINE * (index + 1)].reshape(-1, 3) for index in range(2)]
    assert not (lines[0] == WRONG).all(axis=1).any()
    assert (lines[1] == WRONG).all(axis=1).any()


def test_a_tick_and_a_cross_differ_in_shape_and_stand_beside_the_first_line():
    shapes = []
    for right in (True, False):
        picture = draw_grid(cards(3, colour=WRONG, right=right), [])
        mark = (picture[MARGIN + 221 : MARGIN + 255, 8 + 196 : 8 + 220] == WRONG).all(axis=2)
        assert mark.sum() > 100
        assert not (picture[MARGIN + 221 : MARGIN + 255, 8 : 8 + 190] == WRONG).all(axis=2).any()
        shapes.append(mark)
        left, top, end, bottom = find_line(picture[MARGIN + 221 : MARGIN + 257], WRONG)
        assert end - left > 16 and bottom - top > 12  # seen in a card of TensorBoard too
    assert (shapes[0] ^ shapes[1]).sum() > 100
    plain = draw_grid(cards(3, colour=WRONG), [])
    assert not (plain[MARGIN + 221 :] == WRONG).all(axis=2).any()


def test_all_texts_and_lines_of_a_grid_are_seen_in_a_card_of_tensorboard():
    entries = [Entry("an area", FALSE), Entry("a line", HIT, "line"), Entry("a dashed line", MISSED, "dashed")]
    with recorded_texts() as texts:
        picture = draw_grid(
            cards(5, name="an id", right=True, colour=RIGHT),
            ["a title"],
            legend=entries,
            note="a note",
            scale=("0", "1"),
        )
    assert {line for line, _ in texts} >= {"id", "true: 1", "an id", "a title", "a note", "0", "1", "a dashed line"}
    check_texts(picture, texts)
    for left in ROWS[3][0]:
        card = picture[heading(1, 3) : heading(1, 3) + 226]
        # As a picture of its width, in which the card is as large as it is in the sheet.
        seen = find_line(
            np.where(np.arange(WIDTH)[None, :, None] // 232 == left // 232, card, 255).astype(np.uint8), RIGHT
        )
        assert seen == pytest.approx((left, 0, left + 220, 220), abs=4)


@pytest.mark.parametrize("width", [40, 152, 400])
@pytest.mark.parametrize("text", ["short", "W" * 80, "i" * 200, "/data/train/n01440764/n01440764_10026.JPEG" * 3, ""])
def test_a_shortened_text_fits_its_width_and_keeps_as_much_as_possible(text, width):
    font = font_of(DEJAVU, 13)
    result = shorten(text, width, 13)
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
    assert len(shorten("a" * 3000, 220)) < 40
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


@pytest.mark.parametrize(("count", "across"), [(2, 2), (3, 3), (4, 2), (5, 3)])
def test_several_pictures_stand_in_one_frame(count, across):
    pictures = [np.full((8, 8, 3), 10 * (level + 1), dtype=np.uint8) for level in range(count)]
    drawn, tile = draw_grid([Card(pictures, ["a"], RIGHT)], []), arrange(1, count).tile
    for index in range(count):
        left = MARGIN + FRAME + index % across * (tile + FRAME)
        top = MARGIN + FRAME + index // across * (tile + FRAME)
        assert (drawn[top : top + tile, left : left + tile] == 10 * (index + 1)).all()
        assert (drawn[top + 50, left - FRAME : left] == RIGHT).all()


def test_the_legend_shows_what_fits_and_counts_the_rest():
    few = draw_grid(cards(1), [], legend=[("a", (1, 2, 3))])
    assert tuple(few[MARGIN + 14, MARGIN + 10]) == (1, 2, 3)
    assert few.shape[0] == draw_grid(cards(1), []).shape[0] + NOTE + GAP
    names = [Entry(f"a class {i}", (i, 0, 200)) for i in range(200)]
    many = draw_grid(cards(9), ["t"], legend=names)
    assert many.shape[0] == draw_grid(cards(9), ["t"]).shape[0] + 3 * NOTE
    placed = legend.place_legend(names, 500)
    shown = sum(entry is not None for entry, _, _, _ in placed)
    assert placed[-1][1] == f"+{200 - shown} more"
    font = font_of(DEJAVU, 22)
    assert all(left + (0 if e is None else e.width) + font.getlength(t) <= 500 for e, t, _, left in placed)


@pytest.mark.parametrize(
    ("symbol", "colours"),
    [("area", 1), ("striped", 2), ("line", 1), ("dashed", 2)],
)
def test_lines_are_lines_in_the_legend_and_areas_are_areas(symbol, colours):
    canvas = np.full((40, 200, 3), 255, dtype=np.uint8)
    legend.draw_legend(canvas, (10, 0), legend.place_legend([Entry("", MISSED, symbol)], 180))
    rows, columns = np.nonzero((canvas == MISSED).all(axis=2))
    high, wide = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert (high, wide) == {"area": (18, 18), "striped": (18, 18), "line": (6, 40), "dashed": (6, 40)}[symbol]
    inner = canvas[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].reshape(-1, 3)
    assert len(np.unique(inner, axis=0)) == colours


@pytest.mark.parametrize(
    ("names", "width", "text"),
    [
        (["a", "b"], 450, "missed: a, b"),
        (["cat", "dog", "crocodile", "elephant"], 375, "missed: cat, dog +2 more"),
        (["a very long name of a class"], 250, "missed: a ve…ass"),
        (["a very long name of a class", "b", "c"], 333, "missed: a …ss +2 more"),
    ],
)
def test_names_that_find_no_room_are_counted(names, width, text):
    found = list_names("missed", names, width)
    assert font_of(DEJAVU, 27).getlength(found) <= width
    assert found == text


def test_twelve_small_cards_are_drawn_in_a_few_milliseconds():
    lines = [[f"s{i}", "true: 1", "pred: 2", f"loss: {i}"] for i in range(12)]
    times = []
    for _ in range(5):
        start = time.thread_time()
        draw_grid([Card(np.zeros((8, 8, 3), dtype=np.uint8), line) for line in lines], ["t"])
        times.append(time.thread_time() - start)
    assert min(times) < 0.05
