"""The picture of suspects can be read in a card of TensorBoard, and shows what it is given."""

import numpy as np
import pytest
from legibility import check_texts, recorded_texts

from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.suspects import Suspect, draw_suspects

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
