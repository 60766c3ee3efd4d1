"""The picture of suspects can be read in a card of TensorBoard, and shows what it is given."""

import numpy as np
import pytest
from legibility import check_texts, recorded_texts

from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.suspects import KINDS, Suspect, draw_suspects
from assay.callbacks.history.suspects import SUSPECT_KINDS

NAMES = {
    "short": ["cat", "dog"],
    "long": [f"a name of many words, the {number}th of them" for number in range(2)],
    "Unicode": ["größer", "λόγος"],
    "none": None,
}


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("count", [1, 4, 12])
def test_texts_are_ten_pixels_high_in_a_card(names, count):
    red = np.zeros((20, 30, 3), np.uint8) + np.array([250, 0, 0], np.uint8)
    found = [Suspect(f"folder/{number}.png", 0, 1, 0.987, red) for number in range(count)]
    with recorded_texts() as texts:
        picture = draw_suspects(found, ["12 labels of train may be wrong", "epoch 3"], PictureStyle(NAMES[names]))
    check_texts(picture, texts)
    assert (picture == [250, 0, 0]).all(axis=2).any()
    assert any("0.99" in text for text, _ in texts)


def test_a_sample_without_a_picture_has_a_card_all_the_same():
    style = PictureStyle(["cat", "dog"])
    with recorded_texts() as texts:
        draw_suspects([Suspect("a.png", 1, 0, 0.5, None)], ["1 label"], style)
    assert {"label dog", "→ cat  0.50", "a.png"} <= {text for text, _ in texts}


def test_each_kind_says_what_is_there_and_what_is_likely():
    assert tuple(KINDS) == SUSPECT_KINDS
    with recorded_texts() as texts:
        found = [
            Suspect(
                "a", -1 if kind.startswith("missing") else 1, -1 if kind.startswith("false") else 0, 0.5, None, kind
            )
            for kind in SUSPECT_KINDS
        ]
        picture = draw_suspects(found, ["8 labels or boxes"], PictureStyle(["cat", "dog"]))
    check_texts(picture, texts)
    assert {
        "label dog", "label missing", "region dog", "box missing", "box dog", "\u2192 cat  0.50", "\u2192 none  0.50",
        "\u2192 twin cat  0.50",
    } == {text for text, _ in texts if text not in ("a", "8 labels or boxes")}  # fmt: skip


@pytest.mark.parametrize("shape", [(96, 128), (128, 96), (8, 8)])
def test_a_box_is_drawn_where_it_is(shape):
    red = np.zeros((*shape, 3), np.uint8) + np.array([250, 0, 0], np.uint8)
    height, width = shape
    box = (width / 4, height / 4, width / 2, height * 3 / 4)
    style = PictureStyle(["cat", "dog"])
    plain, boxed = (
        draw_suspects([Suspect("a", 0, 1, 0.5, red, "swapped_box", of)], ["1 box"], style) for of in (None, box)
    )
    assert plain.shape == boxed.shape
    rows, columns = np.nonzero((plain != boxed).any(axis=2))
    ground = np.nonzero((plain == [250, 0, 0]).all(axis=2))
    top, left = ground[0].min(), ground[1].min()
    down, across = (np.ptp(ground[at]) + 1 for at in (0, 1))
    # Lines are 6 pixels wide.
    expected = (left + across / 4, top + down / 4, left + across / 2, top + down * 3 / 4)
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == pytest.approx(expected, abs=8)
