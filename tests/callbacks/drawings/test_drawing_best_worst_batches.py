import math

import numpy as np
import pytest

from assay.callbacks.drawings.best_worst_batches import classes_of, draw_batch, format_score
from assay.callbacks.drawings.grid import GREEN, GREY, RED, Card, draw_grid
from assay.callbacks.drawings.pictures import to_rgb

TITLE = ["worst valid batch by loss: 2", "epoch 1, batch 1 of 1"]


def batch(count=2, **parts):
    image = np.random.rand(count, 1, 8, 8).astype(np.float32)
    return {"image": image, "sample_id": [f"s{i}" for i in range(count)], **parts}


def frame_colours(picture, count):
    columns = math.ceil(math.sqrt(count))
    return [tuple(int(c) for c in picture[10 + 46 + 10, 10 + 162 * index]) for index in range(columns)]


def test_right_samples_are_framed_green_and_wrong_ones_red():
    output = np.array([[2.0, 1.0, 0.0], [0.0, 0.1, 3.0]], dtype=np.float32)
    picture = draw_batch(batch(output=output, target=np.array([0, 1])), TITLE)
    assert frame_colours(picture, 2) == [GREEN, RED]


def test_a_card_shows_id_truth_prediction_and_loss_by_class_name():
    samples = batch(output=np.array([[2.0, 1.0], [0.0, 3.0]]), target=np.array([0, 0]), loss=np.array([0.3133, 3.049]))
    pictures = [to_rgb(image, 0.5, 0.2) for image in samples["image"]]
    expected = [
        Card(pictures[0], ["s0", "true: cat", "pred: cat", "loss: 0.3133"], GREEN, [2]),
        Card(pictures[1], ["s1", "true: cat", "pred: dog", "loss: 3.049"], RED, [2]),
    ]
    drawn = draw_batch(samples, TITLE, class_names=["cat", "dog"], mean=0.5, std=0.2)
    assert np.array_equal(drawn, draw_grid(expected, TITLE))


def test_a_class_without_a_name_is_shown_by_number():
    samples = batch(1, output=np.array([[0.0, 1.0, 5.0]]), target=np.array([-1]))
    expected = [Card(to_rgb(samples["image"][0]), ["s0", "true: -1", "pred: 2"], RED, [2])]
    assert np.array_equal(draw_batch(samples, TITLE, class_names=["cat", "dog"]), draw_grid(expected, TITLE))


@pytest.mark.parametrize(("loss", "text"), [(math.nan, "NaN"), (math.inf, "Inf")])
def test_a_loss_that_is_not_finite_is_framed_red_even_where_the_prediction_is_right(loss, text):
    samples = batch(1, output=np.array([[1.0, 0.0]]), target=np.array([0]), loss=np.array([loss]))
    expected = [Card(to_rgb(samples["image"][0]), ["s0", "true: 0", "pred: 0", f"loss: {text}"], RED, [2, 3])]
    assert np.array_equal(draw_batch(samples, TITLE), draw_grid(expected, TITLE))


def test_what_is_no_classification_shows_id_and_loss_in_a_grey_frame():
    samples = batch(2, output=np.zeros((2, 3, 4, 4)), target=np.zeros((2, 4, 4)), loss=np.array([1.0, 2.0]))
    picture = draw_batch(samples, TITLE)
    assert frame_colours(picture, 2) == [GREY, GREY]
    expected = [Card(to_rgb(samples["image"][i]), [f"s{i}", f"loss: {i + 1}"]) for i in range(2)]
    assert np.array_equal(picture, draw_grid(expected, TITLE))


def test_samples_without_any_label_are_drawn():
    assert frame_colours(draw_batch(batch(2), TITLE), 2) == [GREY, GREY]


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 8, 8), (1, 4, 8, 8)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float16, np.bool_])
def test_images_of_every_kind_are_drawn(shape, dtype):
    image = (np.random.rand(*shape) * (255 if dtype == np.uint8 else 1)).astype(dtype)
    picture = draw_batch({"image": image, "sample_id": range(len(image))}, TITLE)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3


@pytest.mark.parametrize(
    ("output", "target", "truths", "predictions"),
    [
        (np.array([[0.1, 0.9, 0.0], [2.0, 1.0, 0.0]]), np.array([2, 0]), [2, 0], [1, 0]),
        (np.array([[0.1, 0.9], [2.0, 1.0]]), np.array([[1], [1]]), [1, 1], [1, 0]),
        (np.array([-0.5, 0.5]), np.array([0.0, 0.0], dtype=np.float32), [0, 0], [0, 1]),
        (np.array([[-0.5], [0.5]]), np.array([[1.0], [1.0]]), [1, 1], [0, 1]),
        (np.array([[-0.5], [0.0]]), np.array([1, 0]), [1, 0], [0, 0]),
    ],
)
def test_classes_are_those_that_the_logits_decide_for(output, target, truths, predictions):
    found = classes_of(output, target)
    assert [part.tolist() for part in found] == [truths, predictions]


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (None, np.array([1])),
        (np.zeros((1, 2)), None),
        (np.zeros((2, 3)), np.zeros((2, 3))),
        (np.zeros((2, 3, 4, 4)), np.zeros((2, 4, 4))),
        (np.zeros((2, 3, 4, 4)), np.zeros(2)),
    ],
)
def test_what_is_no_classification_has_no_classes(output, target):
    assert classes_of(output, target) == (None, None)


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.123456, "0.1235"),
        (12345.6, "1.235e+04"),
        (0.0, "0"),
        (1.0, "1"),
        (-2.5, "-2.5"),
        (1e-9, "1e-09"),
        (math.nan, "NaN"),
        (math.inf, "Inf"),
        (-math.inf, "-Inf"),
    ],
)
def test_a_score_has_four_significant_digits(score, text):
    assert format_score(score) == text
