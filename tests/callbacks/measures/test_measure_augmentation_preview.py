import math
from itertools import permutations

import numpy as np
import pytest

from assay.callbacks.measures.augmentation_preview import LabelOrder, _log_orders, range_of

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
NONE = np.asarray(0.0), np.asarray(1.0)


def photos(count=8, seed=0):
    """Pictures in 0 to 1, with dark and bright parts."""
    rng = np.random.default_rng(seed)
    return [np.clip(rng.normal(0.5, 0.3, (3, 16, 16)), 0, 1).astype(np.float32) for _ in range(count)]


def normalized(images):
    return [((image - MEAN.reshape(3, 1, 1)) / STD.reshape(3, 1, 1)).astype(np.float32) for image in images]


def test_the_range_is_that_of_the_images_before_they_were_normalized():
    images = photos()
    found = range_of(normalized(images), MEAN, STD)
    assert found.low == pytest.approx(min(image.min() for image in images), abs=1e-6)
    assert found.high == pytest.approx(max(image.max() for image in images), abs=1e-6)
    assert not found.leaves
    assert not found.not_normalized


@pytest.mark.parametrize("change", [lambda x: x * 1.015 - 0.005, lambda x: x])
def test_what_overshoots_a_little_does_not_leave_the_range(change):
    assert not range_of(normalized([change(image) for image in photos()]), MEAN, STD).leaves


def test_a_few_values_far_outside_do_not_leave_the_range():
    images = photos(4)
    images[0][0, 0, :3] = 1.5  # 3 of 3072 values
    assert not range_of(images, *NONE).leaves
    images[0][0, 1, :3] = -0.5
    found = range_of(images, *NONE)
    assert found.leaves
    assert found.outside == pytest.approx(6 / 3072)


@pytest.mark.parametrize(
    ("mean", "std"), [NONE, (np.asarray(0.5), np.asarray(0.5)), (MEAN, 2 * STD), (MEAN * 255, STD * 255)]
)
def test_another_normalization_than_the_datas_leaves_the_range(mean, std):
    assert range_of(normalized(photos()), mean, std).leaves


def test_images_of_0_to_255_leave_the_range():
    assert range_of([image * 255 for image in photos()], *NONE).leaves


def test_values_that_are_not_finite_lie_outside():
    images = photos(2)
    images[0][:, :1] = np.nan
    found = range_of(images, *NONE)
    assert found.outside == pytest.approx(1 / 32)
    assert 0 <= found.low <= found.high <= 1
    nothing = range_of([np.full((1, 2, 2), np.nan)], *NONE)
    assert nothing.leaves
    assert math.isnan(nothing.low)
    assert not nothing.not_normalized


def test_images_that_nobody_normalized_are_told_from_those_that_were():
    assert range_of(photos(), MEAN, STD).not_normalized
    digits = [np.where(np.arange(64).reshape(1, 8, 8) % 5 == 0, 1.0, 0.0)]
    assert not range_of([(image - 0.13) / 0.31 for image in digits], np.asarray(0.13), np.asarray(0.31)).not_normalized
    assert not range_of([np.full((3, 4, 4), 0.5)], MEAN, STD).not_normalized  # one colour tells nothing


def test_integers_have_no_range():
    assert range_of([np.zeros((3, 4, 4), np.uint8), np.ones((3, 4, 4), bool)], *NONE) is None


def finding_of(labels, batch_size):
    """Return the first finding and the number of batches it took."""
    order = LabelOrder()
    for start in range(0, len(labels), batch_size):
        order.update(labels[start : start + batch_size])
        if not order.open:
            break
    return order.finding(), order.batches


def test_sorted_labels_are_found_as_soon_as_the_second_class_comes():
    assert finding_of([0] * 100 + [1] * 100, 10) == ("sorted", 11)
    assert finding_of(list(range(100)), 4) == ("sorted", 3)


def test_batches_of_one_class_are_found():
    labels = [label for label in (2, 0, 1, 0, 2, 1) for _ in range(8)]
    found, batches = finding_of(labels, 8)
    assert found == "one class per batch"
    assert batches >= 3


@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_shuffled_labels_are_no_finding(classes, batch_size):
    for seed in range(200):
        labels = np.random.default_rng(seed).permutation(np.arange(96) % classes).tolist()
        assert finding_of(labels, batch_size)[0] is None


def test_few_labels_that_happen_to_be_sorted_are_no_finding():
    assert finding_of([0, 0, 0, 1, 1, 1], 2)[0] is None
    assert finding_of([0] * 1000 + [1], 100)[0] is None  # one of a thousand comes last by chance once in a thousand


def test_the_law_is_that_of_counting_orders():
    labels = [0, 0, 1, 1, 1, 2, 2]
    orders = set(permutations(labels))
    assert len(orders) == 210
    order = LabelOrder()
    order.update(labels)
    assert math.exp(_log_orders(order.classes)) == pytest.approx(len(orders))


def test_once_shuffled_there_is_nothing_more_to_watch():
    order = LabelOrder()
    assert order.open
    order.update([0, 1])
    order.update([1, 0])
    assert not order.open
