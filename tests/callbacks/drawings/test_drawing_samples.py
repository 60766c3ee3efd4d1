import math

import cv2
import numpy as np
import pytest

from assay.callbacks.drawings.canvas.grid import Card, draw_grid
from assay.callbacks.drawings.canvas.images import heat_over, thumbnail, to_rgb
from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.canvas.theme import BOXES_TILE_SIZE, FALSE, GREEN, GREY, HIT, IGNORED, MISSED, NAN, RED
from assay.callbacks.drawings.samples import HEAT_SCALE, draw_samples, format_score
from assay.callbacks.drawings.tasks import class_maps, labels, masks
from assay.callbacks.errors import UsageError

IGNORING_9, IGNORING_255 = PictureStyle(ignore_index=9), PictureStyle(ignore_index=255)
TITLE = ["worst valid batch by loss: 2", "epoch 1, batch 1 of 1"]
LEFT, TOP = 10, 10 + 46 + 10


def batch(count=2, **parts):
    image = np.random.rand(count, 1, 8, 8).astype(np.float32)
    return {"image": image, "sample_id": [f"s{i}" for i in range(count)], **parts}


def frame_colours(picture, count):
    columns = math.ceil(math.sqrt(count))
    return [tuple(int(c) for c in picture[TOP, LEFT + 162 * index]) for index in range(columns)]


def corner_of(picture, tile=144):
    """Return the colour of the frame of the only card, which has two lines; the legend above may take several rows."""
    return tuple(picture[picture.shape[0] - (tile + 8 + 2 * 18 + 10), LEFT].tolist())


def panel(picture, index, tile=144, lines=2):
    """Return the picture of a panel of the only card."""
    top, left = picture.shape[0] - (tile + 8 + lines * 18 + 10) + 4, LEFT + 4 + index * (tile + 4)
    return picture[top : top + tile, left : left + tile].astype(int)


def test_right_samples_are_framed_green_and_wrong_ones_red():
    output = np.array([[2.0, 1.0, 0.0], [0.0, 0.1, 3.0]], dtype=np.float32)
    assert frame_colours(draw_samples(batch(output=output, target=np.array([0, 1])), TITLE), 2) == [GREEN, RED]


def test_a_card_shows_id_caption_truth_prediction_with_probability_and_loss():
    samples = batch(output=np.array([[2.0, 1.0], [0.0, 3.0]]), target=np.array([0, 0]), loss=np.array([0.3133, 3.049]))
    samples["caption"] = ["#1 of 9", "#2 of 9"]
    pictures = [to_rgb(image, 0.5, 0.2) for image in samples["image"]]
    expected = [
        Card(pictures[0], ["s0", "#1 of 9", "true: cat", "pred: cat (0.73)", "loss: 0.3133"], GREEN, [3]),
        Card(pictures[1], ["s1", "#2 of 9", "true: cat", "pred: dog (0.95)", "loss: 3.049"], RED, [3]),
    ]
    drawn = draw_samples(samples, TITLE, style=PictureStyle(["cat", "dog"], mean=0.5, std=0.2))
    assert np.array_equal(drawn, draw_grid(expected, TITLE))


@pytest.mark.parametrize(
    ("output", "target", "lines", "colour"),
    [
        ([0.1, 0.9, 0.0], 2, ["true: 2", "pred: 1 (0.54)"], RED),
        ([0.0, 0.0, 50.0], -1, ["true: -1", "pred: 2 (1.00)"], RED),
        ([np.nan, 0.0], 0, ["true: 0", "pred: NaN"], RED),
        ([0.0], 1, ["true: 1", "pred: 0 (0.50)"], RED),
        (2.0, 1.0, ["true: 1", "pred: 1 (0.88)"], GREEN),
        (-2.0, [0.0], ["true: 0", "pred: 0 (0.88)"], GREEN),
    ],
)
def test_truth_and_prediction_are_those_that_the_logits_decide_for(output, target, lines, colour):
    samples = batch(1, output=np.array([output]), target=np.array([target]))
    expected = [Card(to_rgb(samples["image"][0]), ["s0", *lines], colour, [2])]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE))


def test_an_ignored_sample_is_neither_right_nor_wrong():
    samples = batch(1, output=np.array([[0.0, 0.0]]), target=np.array([255]))
    expected = [Card(to_rgb(samples["image"][0]), ["s0", "true: ignored", "pred: 0 (0.50)"])]
    assert np.array_equal(draw_samples(samples, TITLE, style=IGNORING_255), draw_grid(expected, TITLE))


def test_a_target_of_probabilities_is_shown_where_the_task_is_named():
    samples = batch(1, output=np.array([[0.0, 1.0]]), target=np.array([[0.4, 0.6]]))
    expected = [Card(to_rgb(samples["image"][0]), ["s0", "true: 1", "pred: 1 (0.73)"], GREEN, [2])]
    assert np.array_equal(draw_samples(samples, TITLE, task="multiclass"), draw_grid(expected, TITLE))
    assert frame_colours(draw_samples(samples, TITLE), 1) == [GREEN]  # of shares that add up to 1 it need not be
    samples["target"] = np.array([[0.4, 0.7]])
    assert frame_colours(draw_samples(samples, TITLE), 1) == [GREY]


@pytest.mark.parametrize(
    ("output", "target", "lines", "colour"),
    [
        ([1, 1, -1, -1], [1, 0, 1, 0], ["missed: c", "false: b", "right: a"], RED),
        ([1, 1, -1, -1], [1, 1, 0, 0], ["right: a, b"], GREEN),
        ([-1, -1, -1, -1], [0, 0, 0, 0], ["right: no label"], GREEN),
        ([-1, 1, -1, -1], [9, 0, 0, 0], ["false: b", "right: none"], RED),
    ],
)
def test_several_labels_are_named_as_missed_false_and_right(output, target, lines, colour):
    text = labels.name_labels(np.array(output), np.array(target), PictureStyle(list("abcd"), ignore_index=9), 200)
    assert list(text.lines) == lines
    assert text.right is (colour == GREEN)
    drawn = draw_samples(batch(1, output=np.array([output]), target=np.array([target])), TITLE, style=IGNORING_9)
    assert tuple(drawn[TOP, LEFT]) == colour


@pytest.mark.parametrize("target", [0, 1, 2])
def test_a_prediction_that_is_nan_is_never_right(target):
    for output in ([np.nan] * 3, [0.0, np.nan, 0.0], [np.inf] * 3):
        text = labels.name_class(np.array(output), np.array(target), PictureStyle())
        assert (text.right, list(text.lines)) == (False, [f"true: {target}", "pred: NaN"])
    several = labels.name_labels(np.array([1.0, np.nan]), np.array([1, 0]), PictureStyle(), 200)
    assert (several.right, list(several.lines), list(several.marked)) == (
        False,
        ["right: 0", "pred: some are NaN"],
        [1],
    )


@pytest.mark.parametrize(("loss", "text"), [(math.nan, "NaN"), (math.inf, "Inf")])
def test_a_loss_that_is_not_finite_is_framed_red_even_where_the_prediction_is_right(loss, text):
    samples = batch(1, output=np.array([[1.0, 0.0]]), target=np.array([0]), loss=np.array([loss]))
    lines = ["s0", "true: 0", "pred: 0 (0.73)", f"loss: {text}"]
    expected = [Card(to_rgb(samples["image"][0]), lines, RED, [2, 3])]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE))


@pytest.mark.parametrize("task", [None, "multiclass", "detection"])
def test_what_fits_no_task_shows_id_and_loss_in_a_grey_frame(task):
    samples = batch(2, output=np.zeros((2, 4)), target=np.random.rand(2, 2), loss=np.array([1.0, 2.0]))
    expected = [Card(to_rgb(samples["image"][i]), [f"s{i}", f"loss: {i + 1}"]) for i in range(2)]
    assert np.array_equal(draw_samples(samples, TITLE, task=task), draw_grid(expected, TITLE))


def test_lists_of_arrays_are_drawn_as_one_array_is():
    samples = batch(3, output=np.random.randn(3, 4), target=np.array([0, 1, 2]), loss=np.random.rand(3))
    listed = {name: list(part) for name, part in samples.items()}
    assert np.array_equal(draw_samples(samples, TITLE), draw_samples(listed, TITLE))


def test_images_of_different_sizes_stand_in_one_grid():
    images = [np.full((1, h, w), 0.502, dtype=np.float32) for h, w in ((8, 8), (28, 100), (700, 300), (1024, 1024))]
    drawn = draw_samples({"image": images, "sample_id": "abcd"}, TITLE)
    assert drawn.shape == draw_samples(batch(4), TITLE).shape
    assert (drawn == 128).all(axis=2).sum() >= 144 * (144 + 40 + 62 + 144)


def test_an_unknown_task_is_an_error_that_lists_those_there_are():
    with pytest.raises(UsageError, match=r"unknown task 'segmentation'.* 'binary', 'detection', 'multiclass'"):
        draw_samples(batch(), TITLE, task="segmentation")


def test_a_heat_map_stands_beside_the_image():
    samples = batch(1, heat=[np.array([[0.0, 1.0]], dtype=np.float32)])
    picture = thumbnail(samples["image"][0], 144)
    expected = [Card([picture, heat_over(picture, samples["heat"][0])], ["s0"])]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE, scale=HEAT_SCALE))


def test_a_heat_map_that_is_zero_leaves_the_image_grey_and_says_why():
    samples = batch(2, heat=[np.zeros((3, 3), dtype=np.float32), np.eye(2, dtype=np.float32)], heat_note=["why", ""])
    pictures = [thumbnail(image, 144) for image in samples["image"]]
    grey = cv2.merge([cv2.cvtColor(pictures[0], cv2.COLOR_RGB2GRAY)] * 3)
    assert np.array_equal(heat_over(pictures[0], samples["heat"][0]), grey)
    expected = [
        Card([pictures[0], grey], ["s0", "why"]),
        Card([pictures[1], heat_over(pictures[1], samples["heat"][1])], ["s1"]),
    ]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE, scale=HEAT_SCALE))


GREY_IMAGE = np.full((1, 8, 8), 0.5, dtype=np.float32)
BLEND = 0.6


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4)])
@pytest.mark.parametrize("size", [8, 1024])
def test_a_binary_mask_shows_hits_misses_and_false_alarms_on_the_image(shape, size):
    output, target = -np.ones((4, 4)), np.zeros((4, 4))
    output[:2, :2], target[:2, :2] = 1, 1  # upper left: hit
    target[:2, 2:] = 1  # upper right: missed
    output[2:, :2] = 1  # lower left: false alarm
    image = np.full((1, size, size), 0.5, dtype=np.float32)
    samples = {"image": [image], "sample_id": "a", "output": [output.reshape(shape)], "target": [target]}
    drawn = draw_samples(samples, TITLE)
    assert (panel(drawn, 0) == 128).all()
    places = {(36, 36): HIT, (36, 108): MISSED, (108, 36): FALSE}
    for place, colour in places.items():
        assert panel(drawn, 1)[place] == pytest.approx(np.array(colour) * BLEND + 128 * (1 - BLEND), abs=1)
    assert panel(drawn, 1)[108, 108].tolist() == [128] * 3


def test_ignored_pixels_of_a_mask_are_hatched_and_do_not_count():
    target = np.array([[1, 0], [9, 9]])
    output = np.array([[1.0, -1.0], [1.0, 1.0]])
    samples = {"image": GREY_IMAGE[None], "sample_id": "a", "output": [output], "target": [target]}
    drawn = panel(draw_samples(samples, TITLE, style=IGNORING_9), 1)
    below = {tuple(colour) for colour in drawn[80:140, 80:140].reshape(-1, 3).tolist()}
    assert below == {(128, 128, 128)}  # grey stripes on grey
    white = {**samples, "image": np.ones((1, 1, 8, 8), dtype=np.float32)}
    below = panel(draw_samples(white, TITLE, style=IGNORING_9), 1)[80:140, 80:140].reshape(-1, 3)
    stripes = np.unique(below, axis=0)
    assert len(stripes) == 2
    assert stripes[0] == pytest.approx(np.array(IGNORED) * BLEND + 255 * (1 - BLEND), abs=1)
    assert stripes[1].tolist() == [255] * 3


def test_a_thin_line_of_a_large_mask_stays_visible():
    target = np.zeros((1024, 1024))
    target[500] = 1
    samples = {"image": np.ones((1, 1, 64, 64)), "sample_id": "a", "output": [target - 0.5], "target": [target]}
    drawn = panel(draw_samples(samples, TITLE), 1)
    assert (drawn[:, 70].min(axis=1) < 210).any()


@pytest.mark.parametrize("stride", [1, 4])
def test_classes_are_shown_in_their_colours_and_errors_in_that_of_the_true_class(stride):
    target = np.zeros((8, 8), dtype=np.int64)
    target[:, 4:], target[7] = 2, 255
    prediction = np.zeros((8, 8), dtype=np.int64)
    prediction[:4, 4:] = 2
    prediction[4:, 4:] = 1
    output = (prediction[None] == np.arange(3)[:, None, None]).astype(np.float32)[:, ::stride, ::stride]
    samples = {"image": GREY_IMAGE[None], "sample_id": "a", "output": [output], "target": target[None]}
    drawn, colours = draw_samples(samples, TITLE, style=IGNORING_255), class_colours(3)
    assert (panel(drawn, 0) == 128).all()
    assert panel(drawn, 1)[10, 10].tolist() == colours[0].tolist()
    assert panel(drawn, 1)[10, 130].tolist() == colours[2].tolist()
    assert panel(drawn, 1)[140, 10].tolist() == list(IGNORED)
    assert panel(drawn, 2)[100, 130].tolist() == colours[1].tolist()
    assert panel(drawn, 3)[10, 10].tolist() == panel(drawn, 3)[10, 130].tolist() == [25] * 3
    assert panel(drawn, 3)[100, 130] == pytest.approx(colours[2], abs=1)
    assert panel(drawn, 3)[140, 130].tolist() == list(IGNORED)


@pytest.mark.parametrize("size", [1024, 700])
def test_a_large_output_that_is_right_everywhere_has_no_errors_where_only_some_pixels_are_read(size):
    small = np.random.randint(0, 20, (size // 4, size // 4))
    output = (small[None] == np.arange(20)[:, None, None]).astype(np.float32)
    target = small.repeat(4, axis=0).repeat(4, axis=1)
    picture = np.full((144, 144, 3), 128, dtype=np.uint8)
    text = class_maps.draw_class_maps(picture, output, target, PictureStyle())
    assert list(text.lines) == ["accuracy 1.00, mIoU 1.00"]
    assert (text.panels[3] == 25).all()
    several = masks.draw_masks(picture, output - 0.5, (target[None] == np.arange(20)[:, None, None]), PictureStyle())
    assert several.lines[0] == "mIoU 1.00"


def test_several_masks_show_where_any_label_is_missed_or_false():
    target, output = np.zeros((3, 2, 2)), -np.ones((3, 2, 2))
    target[0, 0, 0], output[0, 0, 0] = 1, 1
    target[1, 0, 1] = 1
    output[2, 1, 0] = 1
    samples = {"image": GREY_IMAGE[None], "sample_id": "a", "output": [output], "target": [target]}
    drawn = panel(draw_samples(samples, TITLE), 1, lines=3)
    for place, colour in {(36, 36): HIT, (36, 108): MISSED, (108, 36): FALSE}.items():
        assert drawn[place] == pytest.approx(np.array(colour) * BLEND + 128 * (1 - BLEND), abs=1)
    assert drawn[108, 108].tolist() == [128] * 3


def test_boxes_are_scaled_with_their_image_and_coloured_by_their_outcome():
    side = BOXES_TILE_SIZE
    truth = {"boxes": np.array([[2, 2, 10, 10], [20, 20, 30, 30.0]]), "labels": np.array([0, 1])}
    found = {
        "boxes": np.array([[2, 2, 10, 10], [2, 22, 12, 32.0], [0, 0, 39, 39]]),
        "scores": np.array([0.9, 0.8, 0.1]),
        "labels": np.array([0, 0, 0]),
    }
    image = np.full((1, 1, 40, 40), 0.5, dtype=np.float32)
    drawn = draw_samples({"image": image, "sample_id": "a", "output": [found], "target": [truth]}, TITLE)
    first, zoom = panel(drawn, 0, side), side // 40
    assert first[6 * zoom, 2 * zoom].tolist() == list(HIT)
    assert first[30 * zoom, 2 * zoom].tolist() == list(FALSE)
    edge = {tuple(colour) for colour in first[21 * zoom : 29 * zoom, 30 * zoom].tolist()}
    assert edge == {MISSED, (128, 128, 128)}  # dashed
    assert first[20, 200].tolist() == [128] * 3  # the box of a small score is not drawn
    assert corner_of(drawn, side) == RED


@pytest.mark.parametrize(
    ("box", "matches_itself"),
    [
        ([5, 5, 5, 5], False),
        ([9, 9, 1, 1], False),
        ([math.nan] * 4, False),
        ([-50, -50, 500, 500], True),
        ([300, 300, 400, 400], True),
    ],
)
def test_odd_and_empty_boxes_are_drawn(box, matches_itself):
    none = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0), "scores": np.zeros(0)}
    one = {"boxes": np.array([box]), "labels": np.ones(1), "scores": np.ones(1)}
    for found, truth, right in ((one, none, False), (none, one, False), (one, one, matches_itself), (none, none, True)):
        image = np.zeros((1, 3, 40, 30), dtype=np.float32)
        drawn = draw_samples({"image": image, "sample_id": "a", "output": [found], "target": [truth]}, TITLE)
        assert corner_of(drawn, BOXES_TILE_SIZE) == (GREEN if right else RED)


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


def test_pixels_of_a_class_map_that_are_nan_are_wrong_black_and_counted_in_the_caption():
    target = np.zeros((8, 8), dtype=np.int64)
    target[7] = 255
    output = np.stack([np.ones((8, 8)), np.zeros((8, 8))]).astype(np.float32)
    output[1, :2, :4] = np.nan  # 8 of the 56 pixels that count; one logit is enough
    output[:, 7] = np.nan
    picture = np.full((144, 144, 3), 128, dtype=np.uint8)
    text = class_maps.draw_class_maps(picture, output, target, IGNORING_255)
    assert list(text.lines) == ["accuracy 0.86, mIoU 0.86", "14% are NaN"]
    assert [entry[0] for entry in text.legend] == ["0", "ignored", "NaN"]
    truth, prediction, errors = text.panels[1:]
    assert prediction[18, 36].tolist() == list(NAN) and prediction[140, 70].tolist() == list(NAN)
    assert prediction[18, 110].tolist() == truth[18, 36].tolist() == class_colours(1)[0].tolist()
    assert errors[18, 36] == pytest.approx(class_colours(1)[0], abs=1) and (errors[60:100] == 25).all()


@pytest.mark.parametrize("shape", [(8, 8), (4, 4), (1024, 1024)])
def test_pixels_of_masks_that_are_nan_are_wrong_black_and_counted_in_the_caption(shape):
    target = np.zeros((8, 8), dtype=np.uint8)
    target[:4] = 1
    target[:, 6:] = 255
    output = np.where(target[:: 8 // min(8, shape[0]), :: 8 // min(8, shape[0])] == 1, 1.0, -1.0)
    if shape[0] > 8:
        target, output = (part.repeat(128, axis=0).repeat(128, axis=1) for part in (target, output))
    output[:, : shape[1] // 4] = np.nan  # a third of the pixels that count
    picture = np.full((144, 144, 3), 128, dtype=np.uint8)
    one = masks.draw_mask(picture, output, target, IGNORING_255)
    several = masks.draw_masks(
        picture, np.stack([output, -np.ones_like(output)]), np.stack([target] * 2) * 1, IGNORING_255
    )
    assert list(one.lines) == ["IoU 0.50", "33% are NaN"]  # 16 hits, 8 missed and 8 false alarms
    assert several.lines[-1] == "17% are NaN"
    for text in (one, several):
        assert [entry[0] for entry in text.legend][-2:] == ["ignored", "NaN"]
        assert text.panels[1][20, 10].tolist() == text.panels[1][120, 10].tolist() == list(NAN)
    assert (one.panels[1][100, 70:100] == 128).all()


@pytest.mark.parametrize(("broken", "lines"), [(1, ["<1% are NaN"]), (2, ["1% are NaN"]), (0, [])])
def test_a_small_share_of_nan_is_said_and_none_is_not(broken, lines):
    output = np.ones((10, 20))
    output.flat[:broken] = np.nan
    text = masks.draw_mask(np.zeros((20, 20, 3), dtype=np.uint8), output, np.ones((10, 20)), PictureStyle())
    assert list(text.lines[1:]) == lines
