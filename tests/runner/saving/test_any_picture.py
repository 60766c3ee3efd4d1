"""Pictures come to the logger in any form that Catalyst's callbacks and users make."""

import numpy as np
import pytest
import torch
from catalyst.contrib.utils.visualization import render_figure_to_array
from kit import read_events
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from assay.runner import UsageError
from assay.runner.saving.any_picture import as_rgb
from assay.runner.saving.loggers import TensorBoardLogger

RGB = np.array([[[0, 51, 255], [255, 102, 0]]], dtype=np.uint8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (RGB, RGB),
        (RGB / 255.0, RGB),
        (torch.from_numpy(RGB), RGB),
        (torch.from_numpy(RGB).float() / 255, RGB),
        (RGB[..., :1], RGB[..., [0, 0, 0]]),
        (RGB[..., 0], RGB[..., [0, 0, 0]]),
        (np.dstack([RGB, np.full((1, 2), 255, np.uint8)]), RGB),
        (np.dstack([RGB, np.zeros((1, 2), np.uint8)]), np.full_like(RGB, 255)),
        (np.dstack([RGB / 255.0, np.full((1, 2), 0.4)]), np.rint(RGB * 0.4 + 255 * 0.6)),
        (np.array([[np.nan, 2.0, -1.0]]), np.array([[[0] * 3, [255] * 3, [0] * 3]])),
    ],
)
def test_a_picture_becomes_rgb(image, expected):
    found = as_rgb(image)
    assert found.dtype == np.uint8 and np.array_equal(found, expected)


@pytest.mark.parametrize("image", [np.zeros((2, 2, 2)), np.zeros(3), np.zeros((2, 2), int), np.zeros((1, 2, 2, 3))])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(UsageError, match="log_image takes a picture"):
        as_rgb(image)


def test_a_stock_callbacks_figure_is_logged(tmp_path):
    figure = Figure(figsize=(1, 1))
    FigureCanvasAgg(figure)
    figure.add_subplot().plot([0, 1])

    class Run:
        loader_key, epoch_step, sample_step = "valid", 3, 77

    logger, image = TensorBoardLogger(tmp_path), RGB.copy()
    logger.log_image("figure", render_figure_to_array(figure), Run, scope="loader")
    logger.log_image("batch", image, Run, scope="batch")
    image[:] = 0  # the caller's, who goes on with it
    logger.close_log()
    events = read_events(tmp_path / "valid")
    assert [event.step for event in events.Images("figure")] == [3]
    assert [event.step for event in events.Images("batch")] == [77]
