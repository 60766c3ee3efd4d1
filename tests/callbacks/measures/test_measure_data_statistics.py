"""Counts of labels and sizes, each against a plain count."""

from collections import Counter

import numpy as np
import pytest

from assay.callbacks.measures.data_statistics import PER_OCTAVE, DataStatistics, size_bin


def measured(batches, **options):
    measure = DataStatistics()
    for shapes, target in batches:
        measure.update(shapes, target, **options)
    return measure


def chance():
    return np.random.default_rng(0)


def test_class_numbers_are_counted_by_sample():
    targets = chance().integers(0, 5, (7, 4))
    found = measured([([(8, 8)] * 4, target) for target in targets])
    assert found.labels.tolist() == np.bincount(targets.ravel(), minlength=5).tolist()
    assert (found.unit, found.samples) == ("samples", 28)


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.float32, bool])
def test_labels_of_a_sample_are_counted_each(kind):
    target = (chance().random((9, 4)) > 0.5).astype(kind)
    assert measured([([(8, 8)] * 9, target)]).labels.tolist() == target.sum(axis=0).tolist()


def test_soft_targets_count_as_what_has_the_largest_share():
    shares = chance().dirichlet(np.ones(4), 40).astype(np.float32)
    expected = np.bincount(shares.argmax(axis=1), minlength=4).tolist()
    # Some batches hold nothing but whole numbers: of one sample, or of samples of one class.
    batches = [*np.split(shares, 8), np.eye(4, dtype=np.float32)[[2, 2, 1]]]
    expected[2], expected[1] = expected[2] + 2, expected[1] + 1
    for task in ("multiclass", None):
        found = measured([([(8, 8)] * len(of), of) for of in batches], task=task)
        assert (found.labels.tolist(), found.unit, found.left_out) == (expected, "samples", 0)


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_soft_yes_and_no_count_where_they_are_above_a_half(task):
    target = chance().random((40, 1 if task == "binary" else 3)).astype(np.float32)
    labels = measured([([(8, 8)] * 40, target)], task=task).labels.tolist()
    yes = (target > 0.5).sum(axis=0)
    assert labels == ([40 - yes[0], yes[0]] if task == "binary" else yes.tolist())


def test_masks_are_counted_by_pixel_and_large_ones_in_part():
    small = chance().integers(0, 3, (2, 20, 30))
    found = measured([([(20, 30)] * 2, small)])
    assert found.unit == "pixels"
    assert found.labels.tolist() == np.bincount(small.ravel()).tolist()
    large = np.zeros((1, 512, 512), dtype=np.int64)
    large[:, :128] = 1
    shares = measured([([(512, 512)], large)]).labels
    assert (shares / shares.sum()).tolist() == [0.75, 0.25]
    planes = np.stack([large, 1 - large], axis=1)
    of_planes = measured([([(512, 512)], planes)]).labels
    assert (of_planes / of_planes.sum()).tolist() == [0.25, 0.75]


def test_what_does_not_count_is_left_out_and_what_is_no_class_is_told():
    target = np.array([0, 1, 255, -1, 1])
    found = measured([([(8, 8)] * 5, target)], ignore_index=255)
    assert (found.labels.tolist(), found.left_out) == ([1, 2], 1)


@pytest.mark.parametrize("target", [np.array([0.5, 2.0]), np.array([np.nan, 1.0]), None, np.random.rand(2, 3)])
def test_numbers_and_shares_are_no_labels(target):
    found = measured([([(8, 8)] * 2, target)])
    assert (found.unit, len(found.labels), found.samples) == ("", 0, 2)


def test_boxes_are_counted_by_image_by_class_and_by_size():
    rng, batches, per_image, by_class, by_size = chance(), [], Counter(), Counter(), Counter()
    for _ in range(20):
        count = int(rng.integers(0, 6))
        corner, side = rng.random((count, 2)) * 50, rng.random((count, 2)) * 80
        boxes, labels = np.concatenate([corner, corner + side], axis=1), rng.integers(1, 4, count)
        batches.append(([(100, 60)], [{"boxes": boxes, "labels": labels}]))
        per_image[count] += 1
        by_class.update(labels.tolist())
        for width, height in side.tolist():
            by_size[int(np.floor(PER_OCTAVE * np.log2(max(1.0, (width * height) ** 0.5))))] += 1
    found = measured(batches)
    assert {i: n for i, n in enumerate(found.boxes) if n} == per_image
    assert {i: n for i, n in enumerate(found.labels) if n} == by_class
    assert {i: n for i, n in enumerate(found.box_sides) if n} == by_size
    assert found.unit == "boxes"


def test_sizes_are_those_of_all_images():
    shapes = [(20, 30), (500, 40), (64, 64)]
    found = measured([([shape], None) for shape in shapes])
    assert found.shapes == [20, 500, 30, 64]
    sides = Counter(int(size_bin(np.array([max(shape)]))[0]) for shape in shapes)
    assert {i: n for i, n in enumerate(found.sides) if n} == sides
    assert size_bin(np.array([0.0, 1.0, 2.0, 2.0**40])).tolist() == [0, 0, PER_OCTAVE, 17 * PER_OCTAVE - 1]


def test_ranks_that_saw_parts_know_the_whole_together():
    rng = chance()
    batches = [([(int(rng.integers(10, 90)), 32)] * 3, rng.integers(-1, 6, 3)) for _ in range(9)]
    whole = measured(batches)
    parts = [measured(batches[rank::3]) for rank in range(3)]
    for part in [DataStatistics(), *parts[1:]]:
        parts[0].merge(part)
    for name, value in vars(whole).items():
        assert np.array_equal(getattr(parts[0], name), value), name
