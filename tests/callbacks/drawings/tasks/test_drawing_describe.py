"""Truth and prediction in words, against what was put in."""

import numpy as np
import pytest

from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.tasks.describe import describe_output, describe_target

STYLE = PictureStyle(class_names=["cat", "dog", "owl"], ignore_index=255)
MASK = np.array([[0, 2, 2, 2], [255, 255, 2, 0]])


@pytest.mark.parametrize(
    ("task", "output", "target", "truth", "prediction"),
    [
        ("multiclass", np.array([0.0, 1.0, 5.0]), np.array(1), "dog", "owl"),
        ("multiclass", np.array([0.0, 1.0, 5.0]), np.array([0.2, 0.7, 0.1]), "dog", "owl"),
        ("multiclass", np.array([9.0, 1.0, 5.0]), np.array(255), "ignored", "cat"),
        ("binary", np.array([-2.0]), np.array([1.0]), "dog", "cat"),
        ("multilabel", np.array([-2.0, 1.0, 3.0]), np.array([1, 0, 1]), "cat; owl", "dog; owl"),
        ("multilabel", np.array([-2.0, -1.0, -3.0]), np.array([0, 255, 0]), "", ""),
        ("regression", np.array([1.5, -2.0]), np.array([0.1, 3.0]), "0.1; 3", "1.5; -2"),
        ("multiclass", np.stack([np.full((2, 4), 2.0), np.ones((2, 4)), np.zeros((2, 4))]), MASK,
         "owl 66.7%; cat 33.3%", "cat 100.0%"),
        ("binary", np.array([[1.0, -1.0], [-1.0, -1.0]]), np.array([[1, 1], [0, 255]]),
         "dog 66.7%; cat 33.3%", "cat 75.0%; dog 25.0%"),
        ("multilabel", np.stack([np.ones((2, 2)), -np.ones((2, 2))]), np.stack([np.zeros((2, 2)), np.eye(2)]),
         "dog 50.0%", "cat 100.0%"),
        ("detection", {"labels": np.array([2, 1, 2])}, {"labels": np.array([], dtype=int)}, "", "1 x dog; 2 x owl"),
        ("regression", np.full((3, 3), 2.0), np.full((3, 3), 1.25), "mean 1.25", "mean 2"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)  # fmt: skip
def test_truth_and_prediction_are_named(task, output, target, truth, prediction):
    assert describe_target(task, output, target, STYLE) == truth
    assert describe_output(task, output, STYLE) == prediction


def test_a_broken_output_is_no_prediction():
    assert describe_output("multiclass", np.array([0.0, np.nan, 1.0]), STYLE) == "NaN"
