"""Weights of classes, against those of scikit-learn and of counts by hand."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from assay.runner import ItemList, UsageError, class_weights, describe_weights, weighed_names


def listing(task, class_names, **columns):
    names = [f"{number}.jpg" for number in range(len(next(iter(columns.values()))))]
    return ItemList("/data", {"image": names, **columns}, task=task, layout="a test", class_names=class_names)


@pytest.mark.parametrize("counts", [[5, 5], [90, 9, 1], [3, 200, 17, 40]], ids=str)
def test_balanced_weights_are_those_of_scikit_learn(counts):
    targets = np.repeat(np.arange(len(counts)), counts)
    items = listing("multiclass", list("abcd")[: len(counts)], target=targets)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=targets)
    np.testing.assert_allclose(class_weights(items, "balanced"), expected, rtol=1e-12)


def test_a_class_that_does_not_occur_weighs_one_and_leaves_the_others_as_they_are():
    items = listing("multiclass", ["a", "b", "c"], target=[0, 0, 0, 2])
    np.testing.assert_allclose(class_weights(items, "balanced"), [4 / 6, 1, 2])


def test_of_labels_a_yes_weighs_as_much_as_all_noes():
    targets = list(np.array([[1, 1, 0, 0], [0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1]], dtype=np.float32))
    items = listing("multilabel", list("abcd"), target=targets)
    assert class_weights(items, "balanced") == [3, 1, 1, pytest.approx(1 / 3)]


@pytest.mark.parametrize("class_names", [["cat"], ["dog", "cat"]], ids=str)
def test_of_yes_and_no_both_have_a_weight(class_names):
    items = listing("binary", class_names, target=[0, 0, 0, 1])
    assert class_weights(items, "balanced") == [pytest.approx(4 / 6), 2]
    assert class_weights(items, {"cat": 5}) == [1, 5]
    assert weighed_names(items) == ["dog" if len(class_names) == 2 else "not cat", "cat"]


def test_of_masks_the_pixels_are_counted_but_for_those_to_ignore():
    masks = [np.array([[0, 0, 1], [255, 0, 0]]), np.array([[0, 0], [1, 255]])]
    items = listing("segmentation", ["ground", "house", "road"], target=["a.png", "b.png"])
    np.testing.assert_allclose(class_weights(items, "balanced", masks=masks), [8 / 12, 8 / 4, 1])


def test_weights_by_name_leave_the_others_at_one():
    items = listing("multiclass", ["0", "1", "scratch"], target=[0, 1, 2])
    assert class_weights(items, {"scratch": 5, 1: 0.5}) == [1, 0.5, 5]
    assert class_weights(items, None) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scrach": 5}, "unknown class in class_weights 'scrach'; did you mean 'scratch'"),
        ({"scratch": 0}, "class_weights must be greater than 0, got 0 for 'scratch'"),
        ({"scratch": float("inf")}, "class_weights must be greater than 0, got inf"),
        ("even", "class_weights must be balanced or weights by name, got 'even'"),
    ],
)
def test_weights_that_are_none_are_refused(given, message):
    with pytest.raises(UsageError, match=message):
        class_weights(listing("multiclass", ["ok", "scratch"], target=[0, 1]), given)


def test_boxes_have_no_weights():
    boxes = {"bboxes": [np.zeros((1, 4), dtype=np.float32)], "labels": [np.ones(1, dtype=np.int64)]}
    with pytest.raises(UsageError, match="class_weights has no use for boxes"):
        class_weights(listing("detection", ["background", "cat"], **boxes), "balanced")


def test_weights_are_shown_with_the_largest_first():
    assert describe_weights(["a", "b"], [0.5, 12.3456]) == "class weights: b 12.3, a 0.5"
    assert describe_weights([f"{one}" for one in range(12)], [1.0] * 12).endswith("9 1 and 2 more")
