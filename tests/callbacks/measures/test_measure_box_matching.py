import numpy as np
import pytest
import torch
from torchvision.ops import box_iou as reference_iou

from assay.callbacks.measures.box_matching import box_iou, match_boxes


def random_boxes(count, side=20):
    corner = np.random.randint(0, side, (count, 2)).astype(float)
    return np.concatenate([corner, corner + np.random.randint(1, side, (count, 2))], axis=1)


def slow_match(boxes, scores, labels, true_boxes, true_labels, min_iou):
    overlaps = reference_iou(torch.from_numpy(boxes), torch.from_numpy(true_boxes)).numpy()
    found, taken = [-1] * len(boxes), set()
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        best = None
        for other in range(len(true_boxes)):
            same = labels[index] == true_labels[other] and other not in taken
            better = best is None or overlaps[index, other] > overlaps[index, best]
            if same and better and overlaps[index, other] >= min_iou and overlaps[index, other] > 0:
                best = other
        if best is not None:
            found[index] = best
            taken.add(best)
    return found, [overlaps[i, t] if t >= 0 else 0.0 for i, t in enumerate(found)]


def test_iou_is_that_of_torchvision():
    first, second = random_boxes(40), random_boxes(30)
    expected = reference_iou(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    assert box_iou(first, second) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("min_iou", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_matches_are_those_of_a_slow_loop(min_iou, seed):
    np.random.seed(seed)
    boxes, true_boxes = random_boxes(25), random_boxes(15)
    boxes[:8] = true_boxes[:8] + np.random.randn(8, 4)
    scores = np.random.randint(0, 5, 25) / 5
    labels, true_labels = np.random.randint(0, 2, 25), np.random.randint(0, 2, 15)
    matching = match_boxes(boxes, scores, labels, true_boxes, true_labels, min_iou=min_iou)
    truth, iou = slow_match(boxes, scores, labels, true_boxes, true_labels, min_iou)
    assert matching.truth.tolist() == truth
    assert matching.iou == pytest.approx(np.array(iou))
    assert matching.hit.tolist() == [t >= 0 for t in truth]
    assert matching.missed.tolist() == [i not in truth for i in range(15)]


@pytest.mark.parametrize(("predicted", "true"), [(0, 3), (3, 0), (0, 0)])
def test_either_side_may_be_empty(predicted, true):
    matching = match_boxes(
        random_boxes(predicted), np.ones(predicted), np.ones(predicted), random_boxes(true), np.ones(true)
    )
    assert matching.truth.tolist() == [-1] * predicted
    assert matching.missed.tolist() == [True] * true


@pytest.mark.parametrize("box", [[3, 3, 3, 3], [5, 5, 1, 1], [np.nan] * 4, [0, 0, np.inf, np.inf]])
def test_a_box_without_an_area_matches_nothing(box):
    boxes = np.array([box, [0, 0, 9, 9]], dtype=float)
    assert box_iou(boxes[:1], boxes[1:]).tolist() == [[0.0]]
    matching = match_boxes(boxes[:1], np.ones(1), np.ones(1), boxes[1:], np.ones(1), min_iou=0.0)
    assert matching.truth.tolist() == [-1]


def test_a_truth_is_hit_once_by_the_prediction_of_the_largest_score():
    boxes = np.array([[0, 0, 9, 9], [0, 0, 10, 10.0]])
    matching = match_boxes(boxes, np.array([0.9, 0.8]), np.ones(2), boxes[1:], np.ones(1))
    assert matching.truth.tolist() == [0, -1]
