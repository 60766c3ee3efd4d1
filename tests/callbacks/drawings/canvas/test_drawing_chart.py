import numpy as np
import pytest
from legibility import find_line

from assay.callbacks.drawings.canvas.chart import DASHES, Chart, Panel, wrap
from assay.callbacks.drawings.canvas.text import text_length
from assay.callbacks.drawings.canvas.theme import BLUE, ORANGE, TITLE_SIZE


def test_a_curve_keeps_its_ends():
    chart, panel = Chart(200, ["title"]), Panel(50, 50, 100, 100)
    line = np.linspace(0, 1, 10_000)
    chart.lines(panel, [(line, line)], [BLUE])
    pixels = np.array(chart.canvas).astype(int)
    for row, column in ((150, 50), (50, 150), (100, 100)):
        assert np.abs(pixels[row, column] - BLUE).sum() < 160


def test_a_curve_outside_of_the_panel_is_cut_off():
    chart, panel = Chart(300, ["title"]), Panel(300, 100, 100, 100)
    chart.lines(panel, [(np.array([-2.0, 3.0]), np.array([0.5, 0.5]))], [ORANGE])
    columns = np.flatnonzero((np.array(chart.canvas) == ORANGE).all(axis=2).any(axis=0))
    assert 294 <= columns.min() <= 300 and 400 <= columns.max() <= 406


@pytest.mark.parametrize("dashes", DASHES[1:])
def test_the_pieces_of_a_dashed_line_cover_their_share_of_it(dashes):
    chart, panel = Chart(300, ["title"]), Panel(50, 100, 600, 100)
    x = np.linspace(0, 1, 500)
    chart.lines(panel, [(x, np.full(500, 0.5))], [BLUE], dashes=[dashes])
    row = (np.array(chart.canvas)[150, 50:650] == BLUE).all(axis=1)
    # The ends of a piece are round, half the width of the line beyond it.
    assert row.mean() == pytest.approx((dashes[0] + 6) / sum(dashes), abs=0.05)


@pytest.mark.parametrize("down", [False, True])
def test_bars_begin_at_their_edge_and_have_their_heights(down):
    chart, panel = Chart(300, ["title"]), Panel(50, 100, 400, 120)
    chart.bars(panel, np.array([0.5, 0.0, 1e-6, 1.0]), BLUE, down=down)
    blue = (np.array(chart.canvas) == BLUE).all(axis=2)
    assert [int(blue[:, 60 + 100 * index].sum()) for index in range(4)] == [60, 0, 6, 120]
    rows = np.flatnonzero(blue[:, 60])
    assert (rows.min(), rows.max()) == ((100, 159) if down else (160, 219))


def test_an_entry_of_a_legend_is_a_piece_of_the_line_that_is_seen_in_a_card():
    chart = Chart(100, [])
    chart.line_entry((12, 50), "name", BLUE)
    left, top, right, bottom = find_line(np.array(chart.canvas), BLUE)
    assert right - left >= 36 and bottom - top <= 12


def test_a_long_title_goes_on_in_a_second_line_and_loses_what_is_too_long():
    assert wrap("short", 676, TITLE_SIZE) == ["short"]
    text = " ".join(f"word{index}" for index in range(10))
    lines = wrap(text, 676, TITLE_SIZE)
    assert len(lines) == 2 and " ".join(lines) == text
    for text in ("x" * 300, "a " + "x" * 300, "word " * 100):
        lines = wrap(text, 676, TITLE_SIZE)
        assert len(lines) <= 2 and max(text_length(line, TITLE_SIZE) for line in lines) <= 676
    assert Chart(100, [text]).canvas.width == 700
