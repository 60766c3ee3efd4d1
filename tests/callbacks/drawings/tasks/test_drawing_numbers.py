"""Numbers and maps of a regression are shown with the errors that a plain loop finds, in colours that can be read."""

import math

import cv2
import numpy as np
import pytest

from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.canvas.theme import IGNORED, NAN
from assay.callbacks.drawings.tasks.numbers import describe_numbers, draw_number_maps, draw_true_number_map

NAN_VALUE = float("nan")
SIDE = 4


def viridis(level):
    """The colour of a level from 0 to 1, as OpenCV gives it for one pixel."""
    pixel = np.full((1, 1), math.floor(level * 255 + 0.5), dtype=np.uint8)
    return cv2.applyColorMap(pixel, cv2.COLORMAP_VIRIDIS)[0, 0, ::-1].tolist()


def picture():
    return np.zeros((SIDE, SIDE, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("output", "target", "ignored", "lines"),
    [
        (1.5, 2.0, None, ["2 → 1.5", "off by 0.5"]),
        ([1.5, -1.0], [2.0, 3.0], None, ["true: 2, 3", "pred: 1.5, -1", "mean error 2.25"]),
        ([1.5, -1.0], [2.0, -1.0], -1.0, ["true: 2, -1", "pred: 1.5, -1", "mean error 0.5"]),
        ([1.5, 1.0], [NAN_VALUE, 3.0], None, ["true: nan, 3", "pred: 1.5, 1", "mean error 2"]),
        (1.5, -1.0, -1.0, ["true: ignored", "pred: 1.5"]),
        (range(6), range(1, 7), None, ["true: 1, 2, 3, 4 +2 more", "pred: 0, 1, 2, 3 +2 more", "mean error 1"]),
    ],
)
def test_numbers_are_said_with_their_error(output, target, ignored, lines):
    assert (
        describe_numbers(
            np.array(output, dtype=np.float32),
            np.array(target, dtype=np.float32),
            PictureStyle(ignore_index=ignored),
            332,
        ).lines
        == lines
    )


def test_a_pair_of_numbers_that_is_too_long_takes_two_lines():
    text = describe_numbers(np.array(1.234e-07), np.array(123456.0), PictureStyle(), 220)
    assert text.lines == ["true: 1.235e+05", "pred: 1.234e-07", "off by 1.235e+05"]


@pytest.mark.parametrize("channels", [0, 1, 2])
def test_a_map_is_shown_in_the_range_of_the_truth_beside_its_error(channels):
    chance = np.random.default_rng(channels)
    shape = (channels, SIDE, SIDE) if channels else (SIDE, SIDE)
    true, found = (chance.normal(size=shape).astype(np.float32) for _ in range(2))
    text = draw_number_maps(picture(), found, true, PictureStyle())
    errors = [abs(float(a) - float(b)) for a, b in zip(found.reshape(-1), true.reshape(-1), strict=True)]
    low, high = min(true.reshape(-1).tolist()), max(true.reshape(-1).tolist())
    lines = [f"MAE {sum(errors) / len(errors):.4g}, most {max(errors):.4g}", f"true: {low:.4g} to {high:.4g}"]
    assert text.lines == lines + ["channel 0 of 2 is shown"] * (channels == 2)
    _, shown_true, shown_found, shown_error = text.panels
    of_first = [part.reshape(-1, SIDE, SIDE)[0].astype(float) for part in (true, found)]
    of_all = abs(found.astype(float) - true.astype(float)).reshape(-1, SIDE, SIDE).mean(axis=0)
    for y, x in [(0, 0), (1, 3), (3, 2)]:
        for panel, part in zip((shown_true, shown_found), of_first, strict=True):
            level = min(max((part[y, x] - low) / (high - low), 0.0), 1.0)
            assert panel[y, x].tolist() == viridis(level)
        assert shown_error[y, x].tolist() == viridis(of_all[y, x] / max(errors))


def test_three_channels_are_red_green_and_blue():
    true = np.zeros((3, SIDE, SIDE))
    true[0, 0, 0], true[2, 1, 1] = 1.0, 0.5
    shown = draw_number_maps(picture(), true, true, PictureStyle()).panels[1]
    assert shown[0, 0].tolist() == [255, 0, 0]
    assert shown[1, 1].tolist() == [0, 0, 128]


def test_what_does_not_count_is_grey_and_in_no_error():
    true, found = np.ones((SIDE, SIDE)), np.ones((SIDE, SIDE))
    true[0, 0], true[0, 1], true[1, 1], found[2, 2], found[0, 0] = -1.0, NAN_VALUE, 3.0, 2.0, 99.0
    text = draw_number_maps(picture(), found, true, PictureStyle(ignore_index=-1.0))
    assert text.lines == [f"MAE {(2.0 + 1.0) / 14:.4g}, most 2", "true: 1 to 3"]
    _, shown_true, _, shown_error = text.panels
    assert shown_true[0, 0].tolist() == list(IGNORED)
    assert shown_true[0, 1].tolist() == list(NAN)
    assert shown_error[0, 0].tolist() == list(IGNORED)
    assert shown_error[1, 1].tolist() == viridis(1.0)


def test_a_prediction_that_is_nan_is_black_and_in_the_error():
    found = np.zeros((SIDE, SIDE))
    found[1, 2] = NAN_VALUE
    text = draw_number_maps(picture(), found, np.zeros((SIDE, SIDE)), PictureStyle())
    assert text.lines[0].startswith("MAE nan")
    assert text.panels[2][1, 2].tolist() == list(NAN)


@pytest.mark.parametrize("show", [draw_number_maps, draw_true_number_map])
def test_a_map_of_which_nothing_counts_says_so(show):
    parts = [np.full((SIDE, SIDE), -1.0)] * (2 if show is draw_number_maps else 1)
    text = show(picture(), *parts, PictureStyle(ignore_index=-1.0))
    assert text.lines[0].endswith("ignored")
    assert all(np.array_equal(panel, picture()) for panel in text.panels)
