"""Batches of images with boxes."""

import numpy as np
import torch

from assay.runner import collate_boxes
from assay.runner.data.bad_images import Collate, StandIn, WithoutBadImages
from assay.runner.data.batch_size import batch_size

BOXES = [[1.0, 2.0, 5.0, 6.0], [0.0, 0.0, 8.0, 8.0]]


def item(name, boxes, labels, **more):
    return {"image": torch.zeros(3, 8, 8), "bboxes": boxes, "labels": labels, "sample_id": name, **more}


def test_boxes_become_a_target_for_each_image_whatever_form_they_have():
    as_array = item("b", np.array(BOXES, np.float32), np.array([1, 2]))
    batch = collate_boxes([item("a", [], []), as_array])
    assert batch.keys() == {"image", "sample_id", "target"}
    assert (batch["image"].shape, batch["sample_id"]) == ((2, 3, 8, 8), ["a", "b"])
    empty, full = batch["target"]
    assert (empty["boxes"].shape, empty["labels"].shape) == ((0, 4), (0,))
    assert (full["boxes"].tolist(), full["labels"].tolist()) == (BOXES, [1, 2])
    assert {(part["boxes"].dtype, part["labels"].dtype) for part in (empty, full)} == {(torch.float32, torch.int64)}


def test_crowds_are_for_metrics_and_not_for_a_detector_to_learn_from():
    items = [item("a", BOXES, [1, 2], iscrowd=np.array([0, 1]))]
    assert collate_boxes(items)["target"][0]["iscrowd"].tolist() == [0, 1]
    learned = collate_boxes(items, keep_crowds=False)["target"][0]
    assert learned.keys() == {"boxes", "labels"}
    assert (learned["boxes"].tolist(), learned["labels"].tolist()) == (BOXES[:1], [1])


def test_what_stands_in_for_a_batch_without_a_readable_image_counts_for_nothing():
    good = item("a", BOXES, [1, 2])
    items = WithoutBadImages([None, good])
    batch = Collate(collate_boxes)(items.__getitems__([0]))
    assert isinstance(batch, StandIn)
    assert len(batch["target"]) == 2
    full = Collate(collate_boxes)(items.__getitems__([0, 1]))
    assert not isinstance(full, StandIn)
    assert batch_size(full, 0) == 1
