import numpy as np
import pytest
import torch
from kit import boxes

from assay.callbacks import UsageError
from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.drawings.tasks.boxes import draw_matched_boxes
from assay.callbacks.measures.box_evidence import EVIDENCE
from assay.callbacks.measures.sample_history import box_numbers
from assay.callbacks.samples.box_score import BoxF1, SampleBoxes

LEFT, RIGHT, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        (boxes(LEFT, RIGHT, scores=[0.9, 0.8]), boxes(LEFT, RIGHT), 1.0),
        (boxes(LEFT, FAR, scores=[0.9, 0.8]), boxes(LEFT, RIGHT), 2 / 4),
        (boxes(LEFT, LEFT, scores=[0.9, 0.8]), boxes(LEFT), 2 / 3),
        (boxes(LEFT, scores=[0.4]), boxes(LEFT), 0.0),
        (boxes(LEFT, scores=[0.9], labels=[2]), boxes(LEFT), 0.0),
        (boxes((0, 0, 10, 6), scores=[0.9]), boxes(LEFT), 1.0),
        (boxes((0, 0, 10, 4), scores=[0.9]), boxes(LEFT), 0.0),
        (boxes(scores=[]), boxes(), 1.0),
        (boxes(scores=[]), boxes(LEFT), 0.0),
        (boxes(LEFT, scores=[0.9]), boxes(), 0.0),
    ],
    ids=["all", "one of two", "twice", "unsure", "other class", "overlaps", "hardly", "none", "missed", "false"],
)
def test_f1_of_a_sample(found, true, expected):
    later = BoxF1()({"logits": [found, boxes(LEFT, scores=[1.0])], "target": [true, boxes(LEFT)]})
    assert later() == [pytest.approx(expected), 1.0]


CROWD = {"boxes": torch.tensor([[0.0, 0.0, 40.0, 40.0], [50, 50, 60, 60]]), "iscrowd": torch.tensor([1, 0])}


@pytest.mark.parametrize(
    ("found", "labels", "f1", "precision", "counts"),
    [
        (boxes(LEFT, RIGHT, FAR, scores=[0.9, 0.8, 0.7]), [1, 1], 1.0, 1.0, [1, 1, 0, 0]),
        (boxes(LEFT, RIGHT, FAR, scores=[0.9, 0.8, 0.7]), [2, 1], 2 / 4, 1 / 3, [1, 1, 0, 2]),
        (boxes(LEFT, (30, 0, 90, 10), scores=[0.9, 0.8]), [1, 1], 0.0, 0.0, [1, 0, 1, 1]),
        (boxes(scores=[]), [1, 1], 0.0, 0.0, [1, 0, 1, 0]),
    ],
    ids=["within it", "of another label", "reaches out of it", "nothing"],
)
def test_a_crowd_is_not_missed_and_what_lies_in_it_is_not_false(found, labels, f1, precision, counts):
    true = {**CROWD, "labels": torch.tensor(labels)}
    assert BoxF1()({"logits": [found], "target": [true]})() == [pytest.approx(f1)]
    found, true = ({name: part.numpy() for name, part in one.items()} for one in (found, true))
    assert box_numbers(found, true, min_score=0.5, min_iou=0.5) == [pytest.approx(precision), *counts]
    picture, style = np.zeros((200, 200, 3), np.uint8), PictureStyle(None)
    said = draw_matched_boxes(picture, (100, 100), found, true, style, 0.5, 0.5)
    assert said.lines == [f"{counts[1]} of {counts[0]} hit, {counts[3]} false"]


def test_a_missing_key_is_named():
    with pytest.raises(UsageError, match="box_f1 asks for key 'detections'"):
        BoxF1(output_key="detections")({"target": []})


def test_crowds_of_some_images_are_told_from_single_objects():
    box = torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    true = {"boxes": box, "labels": torch.tensor([1])}
    found = {"boxes": box, "labels": torch.tensor([2]), "scores": torch.tensor([0.75])}
    batch = {"found": [found, found], "true": [{**true, "iscrowd": torch.tensor([1])}, true]}
    counts, evidence = SampleBoxes("found", "true", min_score=0.5, min_iou=0.5).copy(batch)()
    assert counts.shape == (2, 4) and evidence.dtype == np.float16
    doubts = evidence[:, EVIDENCE.index("doubt")]
    # A crowd is not in doubt, and the other box is found by another class.
    assert np.isnan(doubts[0]) and doubts[1] == 0.75
    assert np.isnan(evidence[:, EVIDENCE.index("extra_score")]).all()


def test_corners_beyond_half_precision_are_unknown():
    box = torch.tensor([[0.0, 0.0, 70_000.0, 40.0]])
    true = {"boxes": box, "labels": torch.tensor([1])}
    found = {"boxes": box[:0], "labels": torch.tensor([2])[:0], "scores": torch.zeros(0)}
    _, evidence = SampleBoxes("found", "true", min_score=0.5, min_iou=0.5).copy({"found": [found], "true": [true]})()
    assert np.isnan(evidence[0, EVIDENCE.index("doubt_x2")]) and evidence[0, EVIDENCE.index("doubt_y2")] == 40
