import logging

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import features

from assay.callbacks.drawings.canvas import fonts
from assay.callbacks.drawings.canvas.captions import shorten, write
from assay.callbacks.drawings.confusion_matrix import draw_confusion_matrix

RARE = "\U000130ff"  # a hieroglyph, which only the font below has


def build_font(path):
    """Write a font with one letter, a full square."""
    pen = TTGlyphPen(None)
    for move, place in (("moveTo", (0, 0)), ("lineTo", (0, 800)), ("lineTo", (800, 800)), ("lineTo", (800, 0))):
        getattr(pen, move)(place)
    pen.closePath()
    square, names = pen.glyph(), [".notdef", "rare"]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(RARE): "rare"})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "rare": square})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Rare", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


@pytest.fixture
def machine(monkeypatch):
    """Have the machine's fonts as given."""

    def have(*paths):
        monkeypatch.setattr(fonts, "findSystemFonts", lambda: list(paths))
        for cached in (fonts._machine_fonts, fonts._font_of, fonts._replace_hidden, fonts.split_runs):
            cached.cache_clear()

    yield have
    monkeypatch.undo()
    have_cleared = (fonts._machine_fonts, fonts._font_of, fonts._replace_hidden, fonts.split_runs)
    for cached in have_cleared:
        cached.cache_clear()


def test_a_letter_that_dejavu_lacks_is_drawn_with_a_font_of_the_machine(machine, tmp_path):
    machine(build_font(tmp_path / "rare.ttf"))
    assert fonts.shown_names(["cat", f"{RARE} 1"]) == ["cat", f"{RARE} 1"]
    assert fonts.line_length(f"a{RARE}", 20) == pytest.approx(fonts.line_length("a", 20) + 20, abs=1)
    mask, _ = fonts.render_line(f"a{RARE}", 20)
    plain, _ = fonts.render_line("a", 20)
    ink = np.asarray(mask)
    assert (ink[:, plain.size[0] + 2 :] > 200).sum() > 200  # the square of 16 by 16 pixels
    canvas = np.full((40, 80, 3), 255, dtype=np.uint8)
    write(canvas, (2, 2), f"a{RARE}", size=20)
    assert (canvas < 100).sum() > 600


def test_a_name_that_no_font_can_write_is_its_number_and_logged_once(machine, caplog):
    machine()
    with caplog.at_level(logging.WARNING, logger="assay"):
        for _ in range(2):
            assert fonts.shown_names(["cat", RARE, "dog"]) == ["cat", "1", "dog"]
    assert [record.message.split(": ")[1][0] for record in caplog.records] == [RARE]
    counts = np.array([[3, 1], [0, 2]])
    drawn = [draw_confusion_matrix(counts, names, ["title"]) for names in (["cat", RARE], ["cat", "1"])]
    assert np.array_equal(*drawn)


def test_a_font_without_outlines_or_that_is_broken_is_passed_by(machine, tmp_path):
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    machine(str(tmp_path / "broken.ttf"), str(tmp_path / "absent.ttf"))
    assert not fonts.can_draw(RARE)


@pytest.mark.parametrize("name", ["قطة", "חתול"])
def test_scripts_from_right_to_left_need_the_library_that_lays_them_out(machine, monkeypatch, name):
    machine()
    assert fonts.can_draw(name) == features.check("raqm")
    monkeypatch.setattr(features, "check", lambda _: False)
    assert not fonts.can_draw(name)
    assert fonts.can_draw("Käse, œuf, Сыр, τυρί")


def test_what_dejavu_has_never_asks_for_the_fonts_of_the_machine(monkeypatch):
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: pytest.fail("asked"))
    fonts.split_runs.cache_clear()
    assert fonts.split_runs("cat… é") == (("cat… é", fonts.DEJAVU),)
    assert shorten("cat", 100) == "cat"


@pytest.mark.skipif(not features.check("raqm"), reason="Pillow lays out no letters from right to left here")
def test_the_arrow_leads_from_the_first_name_to_the_second_in_every_direction_of_writing():
    true, predicted = "\u0642\u0637", "\u05d7\u05ea\u05d5\u05dc"
    assert [part for part, _ in fonts.split_runs(f"{true} → {predicted}")] == [true, " → ", predicted]
    line, first = (np.asarray(fonts.render_line(text, 24)[0]) for text in (f"{true} → {predicted}", true))
    first = first[:, first.any(axis=0)]
    left = line[:, : first.shape[1]]
    rows = np.flatnonzero(left.any(axis=1))
    assert np.array_equal(left[rows.min() : rows.max() + 1], first)
    latin = [part for part, _ in fonts.split_runs("cat → dog")]
    assert latin == ["cat → dog"]
