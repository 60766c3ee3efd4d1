import math

import cv2
import numpy as np
import pytest
from legibility import find_line, recorded_texts, seen_apart

from assay.callbacks.drawings.canvas.grid import Card, draw_grid
from assay.callbacks.drawings.canvas.images import heat_over, thumbnail, to_rgb
from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.canvas.theme import FALSE, GREY, HIT, IGNORED, MISSED, NAN, PALE, RIGHT, WRONG
from assay.callbacks.drawings.samples import HEAT_SCALE, draw_samples, format_score
from assay.callbacks.drawings.tasks import boxes, class_maps, labels, masks
from assay.callbacks.errors import UsageError

IGNORING_9, IGNORING_255 = PictureStyle(ignore_index=9), PictureStyle(ignore_index=255)
TITLE = ["worst valid batch by loss: 2", "epoch 1, batch 1 of 1"]
LEFT, TOP = 8, 8 + 2 * 36 + 12
TILE, CAPTION, NOTE = 320, 34, 28  # of one, two or four samples, which stand in two columns


def batch(count=2, **parts):
    image = np.random.rand(count, 1, 8, 8).astype(np.float32)
    return {"image": image, "sample_id": [f"s{i}" for i in range(count)], **parts}


def frame_colours(picture, count):
    """Return the colours of the frames of the first two samples, below a title of two lines."""
    return [tuple(int(c) for c in picture[TOP, left]) for left in (LEFT, 360)[:count]]


def frame_top(picture, lines, height):
    """Return where the frame of the only card begins, which has lines and an id; the legend above may take rows."""
    return picture.shape[0] - (12 + lines * CAPTION + NOTE + height)


def panel(picture, index, *, panels=1, lines=1, tile=TILE):
    """Return the picture of a panel of the only card, in which two stand side by side."""
    down = -(-panels // 2)
    top = frame_top(picture, lines, down * (tile + 6) + 6) + 6 + index // 2 * (tile + 6)
    left = LEFT + 6 + index % 2 * (tile + 6)
    return picture[top : top + tile, left : left + tile].astype(int)


def test_right_samples_are_framed_green_and_wrong_ones_red():
    output = np.array([[2.0, 1.0, 0.0], [0.0, 0.1, 3.0]], dtype=np.float32)
    assert frame_colours(draw_samples(batch(output=output, target=np.array([0, 1])), TITLE), 2) == [RIGHT, WRONG]


def test_a_card_shows_id_caption_truth_prediction_with_probability_and_loss():
    samples = batch(output=np.array([[2.0, 1.0], [0.0, 3.0]]), target=np.array([0, 0]), loss=np.array([0.3133, 3.049]))
    samples["caption"] = ["#1 of 9", "#2 of 9"]
    pictures = [to_rgb(image, 0.5, 0.2) for image in samples["image"]]
    expected = [
        Card(pictures[0], ["cat  0.73", "loss 0.3133", "#1 of 9"], RIGHT, (), True, "s0"),
        Card(pictures[1], ["cat → dog  0.95", "loss 3.049", "#2 of 9"], WRONG, (), False, "s1"),
    ]
    drawn = draw_samples(samples, TITLE, style=PictureStyle(["cat", "dog"], mean=0.5, std=0.2))
    assert np.array_equal(drawn, draw_grid(expected, TITLE))


@pytest.mark.parametrize(
    ("output", "target", "line", "right"),
    [
        ([0.1, 0.9, 0.0], 2, "2 → 1  0.54", False),
        ([0.0, 0.0, 50.0], -1, "-1 → 2  1.00", False),
        ([np.nan, 0.0], 0, "0 → NaN", False),
        ([0.0], 1, "1 → 0  0.50", False),
        (2.0, 1.0, "1  0.88", True),
        (-2.0, [0.0], "0  0.88", True),
    ],
)
def test_truth_and_prediction_are_those_that_the_logits_decide_for(output, target, line, right):
    samples = batch(1, output=np.array([output]), target=np.array([target]))
    expected = [Card(to_rgb(samples["image"][0]), [line], RIGHT if right else WRONG, (), right, "s0")]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE))


@pytest.mark.parametrize(
    ("names", "width", "lines"),
    [
        (("cat", "dog"), 240, ["cat → dog  0.73"]),
        (("airplane", "dog"), 220, ["airplane", "→ dog  0.73"]),
        (("dog", "automobile"), 220, ["dog", "→ automobile", "0.73"]),
        (("dog", "automobile"), 380, ["dog → automobile  0.73"]),
    ],
)
def test_names_that_are_too_long_for_one_line_take_several(names, width, lines):
    text = labels.name_class(np.array([0.0, 1.0]), np.array(0), PictureStyle(names), width)
    assert (list(text.lines), text.right) == (lines, False)
    alone = labels.name_class(np.array([0.0, 1.0]), np.array(1), PictureStyle(names), width)
    assert (" ".join(alone.lines).split(), alone.right) == ([names[1], "0.73"], True)


def test_an_ignored_sample_is_neither_right_nor_wrong():
    samples = batch(1, output=np.array([[0.0, 0.0]]), target=np.array([255]))
    expected = [Card(to_rgb(samples["image"][0]), ["ignored → 0  0.50"], name="s0")]
    assert np.array_equal(draw_samples(samples, TITLE, style=IGNORING_255), draw_grid(expected, TITLE))


def test_a_target_of_probabilities_is_shown_where_the_task_is_named():
    samples = batch(1, output=np.array([[0.0, 1.0]]), target=np.array([[0.4, 0.6]]))
    expected = [Card(to_rgb(samples["image"][0]), ["1  0.73"], RIGHT, (), True, "s0")]
    assert np.array_equal(draw_samples(samples, TITLE, task="multiclass"), draw_grid(expected, TITLE))
    assert frame_colours(draw_samples(samples, TITLE), 1) == [RIGHT]  # of shares that add up to 1 it need not be
    samples["target"] = np.array([[0.4, 0.7]])
    assert frame_colours(draw_samples(samples, TITLE), 1) == [GREY]


@pytest.mark.parametrize(
    ("output", "target", "lines", "colour"),
    [
        ([1, 1, -1, -1], [1, 0, 1, 0], ["missed: c", "false: b", "right: a"], WRONG),
        ([1, 1, -1, -1], [1, 1, 0, 0], ["right: a, b"], RIGHT),
        ([-1, -1, -1, -1], [0, 0, 0, 0], ["right: no label"], RIGHT),
        ([-1, 1, -1, -1], [9, 0, 0, 0], ["false: b", "right: none"], WRONG),
    ],
)
def test_several_labels_are_named_as_missed_false_and_right(output, target, lines, colour):
    text = labels.name_labels(np.array(output), np.array(target), PictureStyle(list("abcd"), ignore_index=9), 200)
    assert list(text.lines) == lines
    assert text.right is (colour == RIGHT)
    drawn = draw_samples(batch(1, output=np.array([output]), target=np.array([target])), TITLE, style=IGNORING_9)
    assert tuple(drawn[TOP, LEFT]) == colour


@pytest.mark.parametrize("target", [0, 1, 2])
def test_a_prediction_that_is_nan_is_never_right(target):
    for output in ([np.nan] * 3, [0.0, np.nan, 0.0], [np.inf] * 3):
        text = labels.name_class(np.array(output), np.array(target), PictureStyle(), 200)
        assert (text.right, list(text.lines)) == (False, [f"{target} → NaN"])
    several = labels.name_labels(np.array([1.0, np.nan]), np.array([1, 0]), PictureStyle(), 200)
    assert (several.right, list(several.lines), list(several.marked)) == (
        False,
        ["right: 0", "pred: some are NaN"],
        [1],
    )


@pytest.mark.parametrize(("loss", "text"), [(math.nan, "NaN"), (math.inf, "Inf")])
def test_a_loss_that_is_not_finite_is_framed_red_even_where_the_prediction_is_right(loss, text):
    samples = batch(1, output=np.array([[1.0, 0.0]]), target=np.array([0]), loss=np.array([loss]))
    expected = [Card(to_rgb(samples["image"][0]), ["0  0.73", f"loss {text}"], WRONG, [1], True, "s0")]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE))


@pytest.mark.parametrize("task", [None, "multiclass", "detection"])
def test_what_fits_no_task_shows_id_and_loss_in_a_grey_frame(task):
    samples = batch(2, output=np.zeros((2, 4)), target=np.random.rand(2, 2), loss=np.array([1.0, 2.0]))
    expected = [Card(to_rgb(samples["image"][i]), [f"loss {i + 1}"], name=f"s{i}") for i in range(2)]
    assert np.array_equal(draw_samples(samples, TITLE, task=task), draw_grid(expected, TITLE))


def test_lists_of_arrays_are_drawn_as_one_array_is():
    samples = batch(3, output=np.random.randn(3, 4), target=np.array([0, 1, 2]), loss=np.random.rand(3))
    listed = {name: list(part) for name, part in samples.items()}
    assert np.array_equal(draw_samples(samples, TITLE), draw_samples(listed, TITLE))


def test_images_of_different_sizes_stand_in_one_grid():
    images = [np.full((1, h, w), 0.502, dtype=np.float32) for h, w in ((8, 8), (28, 100), (700, 300), (1024, 1024))]
    drawn = draw_samples({"image": images, "sample_id": "abcd"}, TITLE)
    assert drawn.shape == draw_samples(batch(4), TITLE).shape
    assert (drawn == 128).all(axis=2).sum() >= 320 * (320 + 90 + 137 + 320)


@pytest.mark.parametrize(
    ("task", "shape", "target", "shown"),
    [("multiclass", (3,), (), 3), ("multilabel", (3,), (3,), 2), ("multiclass", (3, 8, 8), (8, 8), 2)],
    ids=["classes", "labels", "masks"],
)
def test_one_row_shows_the_first_samples_alone_as_large_as_they_are_on_the_whole_sheet(task, shape, target, shown):
    rng = np.random.default_rng(0)
    samples = batch(12, output=rng.normal(size=(12, *shape)), target=rng.integers(0, 2, (12, *target)))
    first = {name: part[:shown] for name, part in samples.items()}
    row, whole = draw_samples(samples, TITLE, task=task, one_row=True), draw_samples(samples, TITLE, task=task)
    assert np.array_equal(row, draw_samples(first, TITLE, task=task))
    # A card of TIME SERIES is some 390 x 200 pixels: the row keeps its width there.
    assert row.shape[1] == whole.shape[1] and row.shape[0] < whole.shape[0] / 2


def test_an_unknown_task_is_an_error_that_lists_those_there_are():
    with pytest.raises(UsageError, match=r"unknown task 'segmentation'.* 'binary', 'detection', 'multiclass'"):
        draw_samples(batch(), TITLE, task="segmentation")


def test_a_heat_map_lies_over_the_image():
    samples = batch(1, heat=[np.array([[0.0, 1.0]], dtype=np.float32)])
    picture = thumbnail(samples["image"][0], TILE)
    expected = [Card(heat_over(picture, samples["heat"][0]), [], name="s0")]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE, scale=HEAT_SCALE))


def test_a_heat_map_that_is_zero_leaves_the_image_grey_and_says_why():
    samples = batch(2, heat=[np.zeros((3, 3), dtype=np.float32), np.eye(2, dtype=np.float32)], heat_note=["why", ""])
    pictures = [thumbnail(image, TILE) for image in samples["image"]]
    grey = cv2.merge([cv2.cvtColor(pictures[0], cv2.COLOR_RGB2GRAY)] * 3)
    assert np.array_equal(heat_over(pictures[0], samples["heat"][0]), grey)
    expected = [
        Card(grey, ["why"], name="s0"),
        Card(heat_over(pictures[1], samples["heat"][1]), [], name="s1"),
    ]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE, scale=HEAT_SCALE))


def test_heat_maps_share_a_scale_that_has_numbers():
    """A place of 1.6 has the colour of a fifth of the largest number, 8, in whichever map it is, by the square root."""
    heats = [np.full((2, 2), 1.0, dtype=np.float32), np.full((2, 2), 0.4, dtype=np.float32), np.zeros((2, 2))]
    samples = batch(4, heat=[*heats, np.ones((2, 2), dtype=np.float32)], heat_scale=[8.0, 4.0, 0.0, 0.5])
    samples["heat_note"] = ["", "", "map is 0: a reason", ""]
    shares = (1.0, 0.2, 0.0, 0.0625)
    pictures = [thumbnail(image, TILE) for image in samples["image"]]
    lines = [[], [], ["map is 0: a reason"], ["weak: 0.5"]]
    expected = [
        Card(heat_over(picture, np.full((2, 2), share**0.5)), text, name=f"s{index}")
        for index, (picture, share, text) in enumerate(zip(pictures, shares, lines, strict=True))
    ]
    drawn = draw_samples(samples, TITLE)
    assert np.array_equal(drawn, draw_grid(expected, TITLE, scale=("adds to the score: 0", "2", "8")))


def test_heat_maps_that_are_all_zero_have_no_scale():
    samples = batch(1, heat=[np.zeros((2, 2))], heat_scale=[0.0], heat_note=["why"])
    expected = [Card(heat_over(thumbnail(samples["image"][0], TILE), np.zeros((2, 2))), ["why"], name="s0")]
    assert np.array_equal(draw_samples(samples, TITLE), draw_grid(expected, TITLE))


@pytest.mark.parametrize("task", ["mask", "boxes"])
def test_a_heat_map_leaves_masks_and_boxes_beside_it(task):
    box = {"boxes": np.array([[1.0, 1, 5, 5]]), "labels": np.array([0]), "scores": np.array([0.9])}
    part = np.ones((1, 4, 4)) if task == "mask" else [box]
    samples = batch(1, heat=[np.ones((1, 1), dtype=np.float32)], target=part, output=part)
    drawn = draw_samples(samples, TITLE)
    image = thumbnail(samples["image"][0], TILE)
    shown = [panel(drawn, index, panels=2) for index in range(2)]
    heated = heat_over(image, samples["heat"][0])
    assert [np.array_equal(part, heated) for part in shown] == ([True, False] if task == "mask" else [False, True])


GREY_IMAGE = np.full((1, 8, 8), 0.5, dtype=np.float32)
BLEND = 0.6


def covered(colour, *, below=128):
    return pytest.approx(np.array(colour) * BLEND + below * (1 - BLEND), abs=1)


def shades(part):
    """Return the different colours of a part of a picture."""
    return np.unique(part.reshape(-1, 3), axis=0)


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
    assert (panel(drawn, 0, panels=2) == 128).all()
    shown = panel(drawn, 1, panels=2)
    assert shown[80, 80] == covered(HIT) and shown[240, 80] == covered(FALSE)
    white, red = sorted(shades(shown[5:155, 165:315]).tolist(), key=lambda shade: -sum(shade))
    assert white == covered((255, 255, 255)) and red == covered(MISSED)  # stripes
    assert shown[240, 240].tolist() == [128] * 3


def test_the_legend_of_a_mask_names_only_what_is_there():
    target = np.zeros((4, 4))
    target[:2] = 1
    for output, names in [
        (target, ["hit"]),
        (1 - target, ["missed (striped)", "false alarm"]),
        (target * 0, ["missed (striped)"]),
    ]:
        for draw, output_, target_ in [
            (masks.draw_mask, output, target),
            (masks.draw_masks, output[None], target[None]),
        ]:
            text = draw(np.zeros((20, 20, 3), dtype=np.uint8), output_ - 0.5, target_, PictureStyle(ignore_index=9))
            assert [entry.name for entry, _ in text.legend] == names


def test_missed_pixels_are_seen_on_a_red_roof():
    roof = np.full((60, 60, 3), (180, 60, 50), dtype=np.uint8)
    shown = masks.paint(roof, [(np.ones((60, 60), dtype=bool), MISSED)])
    white, red = sorted(shades(shown).tolist(), key=lambda shade: -sum(shade))
    assert min(seen_apart(white, red)) >= 20 and min(seen_apart(white, roof[0, 0])) >= 20
    # The stripes are wide enough for every second pixel to show them.
    assert len(shades(shown[1::2, 1::2])) == 2


def test_ignored_pixels_of_a_mask_are_hatched_and_do_not_count():
    target = np.array([[1, 0], [9, 9]])
    output = np.array([[1.0, -1.0], [1.0, 1.0]])
    samples = {"image": GREY_IMAGE[None], "sample_id": "a", "output": [output], "target": [target]}
    drawn = panel(draw_samples(samples, TITLE, style=IGNORING_9), 1, panels=2)
    assert shades(drawn[170:310, 170:310]).tolist() == [[128] * 3]  # grey stripes on grey
    white = {**samples, "image": np.ones((1, 1, 8, 8), dtype=np.float32)}
    stripes = shades(panel(draw_samples(white, TITLE, style=IGNORING_9), 1, panels=2)[170:310, 170:310])
    assert len(stripes) == 2
    assert stripes[0] == covered(IGNORED, below=255)
    assert stripes[1].tolist() == [255] * 3


def test_a_thin_line_of_a_large_mask_stays_visible():
    target = np.zeros((1024, 1024))
    target[500] = 1
    samples = {"image": np.ones((1, 1, 64, 64)), "sample_id": "a", "output": [target - 0.5], "target": [target]}
    drawn = panel(draw_samples(samples, TITLE), 1, panels=2)
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
    image, truth, found, errors = (panel(drawn, index, panels=4) for index in range(4))
    assert (image == 128).all()
    assert truth[10, 10].tolist() == colours[0].tolist()
    assert truth[10, 300].tolist() == colours[2].tolist()
    assert truth[315, 10].tolist() == list(IGNORED)
    assert found[225, 300].tolist() == colours[1].tolist()
    assert errors[10, 10].tolist() == errors[10, 300].tolist() == [25] * 3
    assert errors[225, 300] == pytest.approx(colours[2], abs=1)
    assert errors[315, 300].tolist() == list(IGNORED)


def test_each_class_of_a_map_has_its_number_where_it_is_widest():
    numbers = np.zeros((8, 8), dtype=np.int64)
    numbers[:, 4:], numbers[7, 0] = 12, 1  # class 1 is too small for a number
    panel_ = class_maps._colour_classes(numbers, class_maps._colours_of(13), (160, 160))
    ground = (panel_ == 255).all(axis=2)
    assert ground[:, :80].any() and ground[:, 80:].any() and not ground[140:, :20].any()
    rows, columns = np.nonzero(ground[:, 80:])
    assert columns.mean() == pytest.approx(40, abs=2) and 26 <= rows.mean() <= 134
    text = class_maps.draw_true_map(
        np.zeros((160, 160, 3), np.uint8), numbers, PictureStyle([f"name {i}" for i in range(13)])
    )
    assert [entry.name for entry, _ in text.legend] == ["0 name 0", "1 name 1", "12 name 12"]


@pytest.mark.parametrize("size", [1024, 700])
def test_a_large_output_that_is_right_everywhere_has_no_errors_where_only_some_pixels_are_read(size):
    small = np.random.randint(0, 20, (size // 4, size // 4))
    output = (small[None] == np.arange(20)[:, None, None]).astype(np.float32)
    target = small.repeat(4, axis=0).repeat(4, axis=1)
    picture = np.full((144, 144, 3), 128, dtype=np.uint8)
    text = class_maps.draw_class_maps(picture, output, target, PictureStyle())
    assert list(text.lines) == ["acc 1.00, mIoU 1.00"]
    assert (text.panels[3] == 25).all()
    several = masks.draw_masks(picture, output - 0.5, (target[None] == np.arange(20)[:, None, None]), PictureStyle())
    assert several.lines[0] == "mIoU 1.00"


def test_several_masks_show_where_any_label_is_missed_or_false():
    target, output = np.zeros((3, 2, 2)), -np.ones((3, 2, 2))
    target[0, 0, 0], output[0, 0, 0] = 1, 1
    target[1, 0, 1] = 1
    output[2, 1, 0] = 1
    samples = {"image": GREY_IMAGE[None], "sample_id": "a", "output": [output], "target": [target]}
    drawn = panel(draw_samples(samples, TITLE), 1, panels=2, lines=2)
    assert drawn[80, 80] == covered(HIT) and drawn[240, 80] == covered(FALSE)
    assert covered(MISSED) in shades(drawn[5:155, 165:315]).tolist()
    assert drawn[240, 240].tolist() == [128] * 3


TRUE_BOXES = {"boxes": np.array([[2, 2, 10, 10], [20, 20, 30, 30.0]]), "labels": np.array([0, 1])}
FOUND_BOXES = {
    "boxes": np.array([[2, 2, 10, 10], [2, 22, 12, 32.0], [34, 4, 38, 12]]),
    "scores": np.array([0.9, 0.8, 0.1]),
    "labels": np.array([0, 0, 0]),
}
IMAGE_40 = np.full((1, 1, 40, 40), 0.5, dtype=np.float32)


def draw_boxes(found, truth, **options):
    return draw_samples({"image": IMAGE_40, "sample_id": "a", "output": [found], "target": [truth]}, TITLE, **options)


def test_boxes_are_scaled_with_their_image_and_coloured_by_their_outcome():
    drawn = draw_boxes(FOUND_BOXES, TRUE_BOXES)
    first, zoom = panel(drawn, 0), TILE // 40
    # Lines lie around the objects, which stay visible to their edge.
    assert first[6 * zoom, 2 * zoom - 5].tolist() == first[6 * zoom, 10 * zoom + 5].tolist() == list(HIT)
    assert first[6 * zoom, 2 * zoom + 2].tolist() == [128] * 3
    assert first[27 * zoom, 2 * zoom - 5].tolist() == list(FALSE)
    dashes = {tuple(colour) for colour in first[21 * zoom : 29 * zoom, 30 * zoom + 4].tolist()}
    assert dashes == {MISSED, (255, 255, 255)}
    assert first[8 * zoom, 34 * zoom - 2].tolist() == list(PALE)  # below the smallest score
    assert tuple(drawn[frame_top(drawn, 1, TILE + 12), LEFT]) == WRONG


def test_the_lines_of_boxes_are_seen_in_a_card_of_tensorboard():
    # In a sheet of its width, where nothing else has these colours.
    sheet = np.full((400, 700, 3), 255, dtype=np.uint8)
    text = boxes.draw_matched_boxes(
        np.full((TILE, TILE, 3), 128, np.uint8), (40, 40), FOUND_BOXES, TRUE_BOXES, PictureStyle(), 0.5, 0.5
    )
    sheet[:TILE, :TILE] = text.panels[0]
    for colour, box, gap in ((HIT, (2, 2, 10, 10), 0), (MISSED, (20, 20, 30, 30), 8), (FALSE, (2, 22, 12, 32), 0)):
        left, _, right, bottom = find_line(sheet, colour, gap=gap, tolerance=14)
        assert right - left >= (box[2] - box[0]) * TILE / 40
        assert bottom == pytest.approx(box[3] * TILE / 40, abs=12 + 2 * gap)


@pytest.mark.parametrize(
    ("found", "lines", "names"),
    [
        (FOUND_BOXES, ["1 of 2 hit, 1 false"], ["✓ hit: score", "missed", "✗ false: score", "best below 0.5"]),
        ({name: part[2:] for name, part in FOUND_BOXES.items()}, ["0 of 2 hit, 0 false"], ["missed", "best below 0.5"]),
        ({**TRUE_BOXES, "scores": np.array([0.7, 0.6])}, ["2 of 2 hit, 0 false"], ["✓ hit: score"]),
    ],
)
def test_the_legend_of_boxes_names_only_what_is_there(found, lines, names):
    text = boxes.draw_matched_boxes(
        np.zeros((TILE, TILE, 3), np.uint8), (40, 40), found, TRUE_BOXES, PictureStyle(), 0.5, 0.5
    )
    assert (list(text.lines), [entry.name for entry, _ in text.legend]) == (lines, names)
    assert {entry.symbol for entry, _ in text.legend} <= {"line", "dashed"}


def test_boxes_of_one_class_have_no_name_each():
    one, style = {**TRUE_BOXES, "labels": np.array([1, 1])}, PictureStyle(["cat", "dog"])
    found = {**one, "scores": np.array([0.7, 0.6])}
    for target, named in ((one, False), (TRUE_BOXES, True)):
        with recorded_texts() as texts:
            draw_boxes({**target, "scores": found["scores"]}, target, style=style)
        lines = [line for line, _ in texts]
        assert ("✓ dog 0.60" in lines, "✓ 0.60" in lines, "all boxes: dog" in lines) == (named, not named, not named)


def test_an_untrained_detector_shows_its_best_boxes_with_their_scores():
    place = np.arange(12.0)[:, None] * 3
    found = {"boxes": np.concatenate([place, place, place + 3, place + 3], axis=1), "labels": np.zeros(12)}
    with recorded_texts() as texts:
        draw_boxes({**found, "scores": np.arange(12) / 100}, {"boxes": np.zeros((0, 4)), "labels": np.zeros(0)})
    lines = {line for line, _ in texts}
    assert "0.11" in lines and "0.01" not in lines  # the best ten


@pytest.mark.parametrize(("count", "is_named"), [(12, True), (13, False)])
def test_many_boxes_have_thin_lines_and_no_texts_where_they_are_right(count, is_named):
    corners = np.stack([np.arange(count) % 5 * 8.0 + 1, np.arange(count) // 5 * 8.0 + 2], axis=1)
    truth = {"boxes": np.concatenate([corners, corners + 5], axis=1), "labels": np.arange(count) % 2}
    with recorded_texts() as texts:
        drawn = panel(draw_boxes({**truth, "scores": np.full(count, 0.9)}, truth), 0)
    assert any(line.startswith("✓ ") and "0.90" in line for line, _ in texts) == is_named
    row = (drawn[4 * 8] == HIT).all(axis=1)
    lengths = np.diff(np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int))))[::2]
    assert lengths.max() == (6 if is_named else 3)


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
        assert tuple(drawn[frame_top(drawn, 1, TILE + 12), LEFT]) == (RIGHT if right else WRONG)


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
    assert list(text.lines) == ["acc 0.86, mIoU 0.86", "14% are NaN"]
    assert [entry.name for entry, _ in text.legend] == ["0", "ignored", "NaN"]
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
        assert [entry.name for entry, _ in text.legend][-2:] == ["ignored", "NaN"]
        assert text.panels[1][20, 10].tolist() == text.panels[1][120, 10].tolist() == list(NAN)
    assert (one.panels[1][100, 70:100] == 128).all()


@pytest.mark.parametrize(("broken", "lines"), [(1, ["<1% are NaN"]), (2, ["1% are NaN"]), (0, [])])
def test_a_small_share_of_nan_is_said_and_none_is_not(broken, lines):
    output = np.ones((10, 20))
    output.flat[:broken] = np.nan
    text = masks.draw_mask(np.zeros((20, 20, 3), dtype=np.uint8), output, np.ones((10, 20)), PictureStyle())
    assert list(text.lines[1:]) == lines
