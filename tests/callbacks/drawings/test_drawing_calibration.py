import numpy as np
import pytest
from legibility import check_texts, find_line, recorded_texts

from assay.callbacks.drawings.calibration import draw_calibration
from assay.callbacks.drawings.canvas.theme import BLUE, ORANGE


def test_the_diagram_is_legible_in_a_card_and_its_line_goes_from_the_first_to_the_last_bin():
    confidence = np.linspace(0.03, 0.97, 15)
    with recorded_texts() as texts:
        picture = draw_calibration(np.full(15, 1 / 15), confidence**2, confidence, ["valid calibration", "ECE 0.1"])
    check_texts(picture, texts)
    left, top, right, bottom = find_line(picture[130:], ORANGE)
    assert right - left == pytest.approx(0.94 * 606, abs=16)
    assert bottom - top == pytest.approx((0.97**2 - 0.03**2) * 440, abs=16)


def test_empty_bins_have_neither_bar_nor_point():
    shares, empty = np.zeros(10), np.full(10, np.nan)
    assert not (draw_calibration(shares, empty, empty, ["valid"]) == BLUE).all(axis=2).any()
    shares[4], empty[4] = 1, 0.45
    picture = draw_calibration(shares, empty, empty, ["valid"])
    columns = np.flatnonzero((picture == BLUE).all(axis=2).any(axis=0))
    assert len(columns) == pytest.approx(60, abs=2)
