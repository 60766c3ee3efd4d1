import numpy as np
import pytest

from assay.callbacks.drawings.canvas.palette import class_colours
from assay.callbacks.drawings.tasks.find_task import find_task

BOXES = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0)}


@pytest.mark.parametrize(
    ("output", "target", "task"),
    [
        ((2,), (2,), "binary"),
        ((2, 1), (2,), "binary"),
        ((2, 1), (2, 1), "binary"),
        ((2, 3), (2,), "multiclass"),
        ((2, 3), (2, 1), "multiclass"),
        ((2, 3), (2, 3), "multilabel"),
        ((2, 8, 8), (2, 8, 8), "binary"),
        ((2, 1, 8, 8), (2, 8, 8), "binary"),
        ((2, 1, 2, 2), (2, 1, 8, 8), "binary"),
        ((2, 3, 8, 8), (2, 8, 8), "multiclass"),
        ((2, 3, 2, 2), (2, 1, 8, 8), "multiclass"),
        ((2, 3, 8, 8), (2, 3, 8, 8), "multilabel"),
        ((2, 3), (2, 4), None),
        ((2, 3, 4, 4), (2,), None),
        ((2, 3, 4, 4, 4), (2, 4, 4, 4), None),
        ((2, 3), (3,), None),
    ],
)
def test_the_task_follows_from_the_shapes(output, target, task):
    assert find_task(np.zeros(output), np.zeros(target)) == task
    assert find_task(list(np.zeros(output)), list(np.zeros(target))) == task


@pytest.mark.parametrize(
    ("output", "target", "ignore_index", "task"),
    [
        ((1, 1), [[0.5]], None, "regression"),
        ((1, 1), [[54]], None, None),
        ((1, 1), [[255]], 255, "binary"),
        ((1, 2), [[0.1, 0.9]], None, "multiclass"),
        ((1, 2), [[1, -1]], -1, "multilabel"),
        ((1, 2), [1.5], None, None),
        ((1, 2), [np.nan], None, None),
        ((1, 2), [1.0], None, "multiclass"),
        ((1, 2), [-100], None, "multiclass"),
    ],
)
def test_a_target_of_other_values_belongs_to_a_regression(output, target, ignore_index, task):
    assert find_task(np.zeros(output), np.array(target), None, ignore_index) == task


def test_dicts_are_a_detection_and_nothing_else():
    outputs, targets = [{**BOXES, "scores": np.zeros(0)}], [BOXES]
    assert find_task(outputs, targets) == "detection"
    assert find_task(outputs, targets, "multiclass") is None
    assert find_task(targets, targets) is None
    assert find_task(outputs, [np.zeros(3)]) is None
    assert find_task(np.zeros((1, 2)), np.zeros(1), "detection") is None


def test_without_output_or_target_there_is_no_task():
    assert find_task(None, np.zeros(2)) is None
    assert find_task(np.zeros(2), None) is None


@pytest.mark.parametrize("count", [1, 2, 7, 8, 64, 65, 200, 256, 300, 5000])
def test_colours_of_classes_are_all_different_and_do_not_depend_on_their_number(count):
    colours = class_colours(count)
    assert colours.shape == (count, 3)
    assert len(np.unique(colours, axis=0)) == count
    assert np.array_equal(colours, class_colours(6000)[:count])
