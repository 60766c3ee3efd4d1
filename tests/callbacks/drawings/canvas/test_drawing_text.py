import numpy as np
import pytest
from PIL import Image, ImageDraw

from assay.callbacks.drawings.canvas.fonts import DEJAVU, font_of
from assay.callbacks.drawings.canvas.text import text_length, write_text


@pytest.mark.parametrize("text", ["a line", "gypsum, Ångström", "Ж", "0.25", ""])
@pytest.mark.parametrize("anchor", ["la", "ma", "rm", "mm", "ls"])
@pytest.mark.parametrize("place", [(40, 20), (40.25, 20.5), (-3.5, 2), (118.75, 38)])
def test_the_pixels_are_those_of_pillow(text, anchor, place):
    found, expected = (Image.new("RGB", (120, 40), (250, 240, 200)) for _ in range(2))
    ImageDraw.Draw(expected).text(place, text, fill=(40, 90, 200), font=font_of(DEJAVU, 12), anchor=anchor)
    for _ in range(2):  # rendered, and remembered
        canvas = found.copy()
        write_text(canvas, place, text, fill=(40, 90, 200), size=12, anchor=anchor)
        assert np.array_equal(np.array(canvas), np.array(expected))


def test_grey_is_written_on_grey():
    found, expected = (Image.new("L", (60, 20), 10) for _ in range(2))
    ImageDraw.Draw(expected).text((2, 9.5), "grey", fill=255, font=font_of(DEJAVU, 12), anchor="lm")
    write_text(found, (2, 9.5), "grey", fill=255, size=12, anchor="lm")
    assert np.array_equal(np.array(found), np.array(expected))


def test_the_length_is_that_of_the_font():
    assert text_length("a line", 12) == font_of(DEJAVU, 12).getlength("a line")
    assert text_length("a line", 15) > text_length("a line", 12)
