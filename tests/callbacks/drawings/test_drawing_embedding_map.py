import numpy as np
import pytest
from legibility import check_texts, recorded_texts

from assay.callbacks.drawings.canvas.theme import INK
from assay.callbacks.drawings.embedding_map import draw_embedding_map


def draw(count, classes, labels=True, predictions=True, names=None):
    """Return the picture and its texts, after the check that a card shows them."""
    generator = np.random.default_rng(0)
    points, true = generator.normal(size=(count, 2)), generator.integers(0, classes, count)
    predicted = np.where(np.arange(count) < 3, (true + 1) % max(classes, 2), true)
    with recorded_texts() as texts:
        picture = draw_embedding_map(points, true if labels else None, predicted if predictions else None, names, ["t"])
    check_texts(picture, texts)
    return picture, [text for text, _ in texts]


@pytest.mark.parametrize("classes", [1, 2, 10, 200])
@pytest.mark.parametrize(("labels", "predictions"), [(True, True), (True, False), (False, True), (False, False)])
def test_every_map_is_legible_in_a_card(classes, labels, predictions):
    picture, texts = draw(300, classes, labels, predictions)
    assert picture.shape[1:] == (700, 3)
    kinds = [text for text in texts if text in ("true class", "predicted class", "samples")]
    assert kinds == ([*["true class"] * labels, *["predicted class"] * predictions] or ["samples"])


def test_numbers_stand_beside_the_colours_of_classes():
    _, texts = draw(300, 10, names=[f"animal {index}" for index in range(10)])
    assert {str(index) for index in range(10)} <= set(texts)
    assert {f"{index} animal {index}" for index in range(10)} <= set(texts)


def test_of_many_classes_the_most_frequent_are_named_and_the_others_counted():
    _, texts = draw(5000, 50)
    assert "+30 more" in texts


def test_a_wrong_prediction_has_a_dark_ring_in_the_right_panel_alone():
    picture, texts = draw(300, 60)
    assert "3 of 300 wrong" in texts
    dark = (picture == np.array(INK, np.uint8)).all(axis=2)[90:400]
    assert dark[:, 350:].sum() > 3 * 100
    assert not dark[:, 14:340].any()
