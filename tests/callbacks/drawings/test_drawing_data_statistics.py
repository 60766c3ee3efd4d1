"""The sheet of a data set: its bars are as long as the counts, and its texts can be read in a card."""

import numpy as np
import pytest
from legibility import check_texts, recorded_texts

from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.canvas.theme import BLUE
from assay.callbacks.drawings.data_statistics import draw_data_statistics
from assay.callbacks.measures.data_statistics import DataStatistics


def counted(counts):
    measure = DataStatistics()
    target = np.repeat(np.arange(len(counts)), counts)
    measure.update([(32, 48)] * len(target), target)
    return measure


def drawn(measure, names=None):
    with recorded_texts() as texts:
        picture = draw_data_statistics(measure, ["data of train, epoch 1"], PictureStyle(names))
    check_texts(picture, texts)
    return picture, [line for line, _ in texts]


def test_the_bars_are_as_long_as_the_counts():
    picture, texts = drawn(counted([10, 40, 20, 0]), ["cat", "dog", "owl", "elk", "bee"])
    lengths = (picture == np.array(BLUE)).all(axis=-1).sum(axis=1)
    starts = np.flatnonzero(np.diff(np.r_[0, lengths > 0]) == 1)
    assert (lengths[starts + 5] / lengths.max()).tolist() == pytest.approx([0.25, 1, 0.5], abs=0.02)
    assert {"cat", "dog", "owl", "elk", "bee", "40  57.1%", "0  0.0%", "70 images, all 48 x 32"} <= set(texts)


def test_of_many_classes_the_most_frequent_and_the_rarest_are_shown():
    _, texts = drawn(counted([*range(1, 201)]))
    assert "the 10 most frequent and the 10 rarest of 200 classes" in texts
    assert {"199", "190", "0", "9"} <= set(texts)
    assert not {"100", "189", "10"} & set(texts)


def test_sizes_and_boxes_have_histograms():
    measure = DataStatistics()
    for side in (10, 100, 700):
        box = {"boxes": np.array([[0, 0, side / 2, side / 2]] * 2), "labels": np.array([1, 2])}
        measure.update([(side, side // 2)], [box])
    picture, texts = drawn(measure)
    assert "3 images, 5 to 350 wide, 10 to 700 high" in texts
    assert {"longer side of the images, pixels", "boxes per image, mean 2.0"} <= set(texts)
    assert "root of the area of the boxes, pixels" in texts
    assert picture.shape[0] > 700


def test_labels_that_are_no_class_are_told():
    measure = DataStatistics()
    measure.update([(8, 8)] * 3, np.array([0, -1, -1]))
    assert "left out: 2 labels that are no class" in drawn(measure)[1]
