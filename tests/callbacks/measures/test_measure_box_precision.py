import math

import numpy as np
import pytest
import torch
from kit import boxes
from torchvision.ops import box_iou

from assay.callbacks.measures.box_precision import MIN_IOUS, box_precision

LEFT, RIGHT, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (50.0, 50.0, 60.0, 60.0)


def slow_precision(found, true, min_score=0.0, min_ious=MIN_IOUS):
    """The competition's rule for one image, word by word."""
    order = sorted(
        (i for i in range(len(found["scores"])) if found["scores"][i] >= min_score),
        key=lambda i: -float(found["scores"][i]),
    )
    overlaps = box_iou(found["boxes"].double(), true["boxes"].double())
    values = []
    for min_iou in min_ious:
        free, hits = set(range(len(true["boxes"]))), 0
        for i in order:
            best = None
            for j in sorted(free):
                same = found["labels"][i] == true["labels"][j]
                if same and (best is None or overlaps[i, j] > overlaps[i, best]):
                    best = j
            if best is not None and overlaps[i, best] > min_iou:
                free.remove(best)
                hits += 1
        false, missed = len(order) - hits, len(free)
        if not len(true["boxes"]):
            values.append(0.0 if order else math.nan)
        else:
            values.append(hits / (hits + false + missed))
    return float(np.mean(values))


def random_image(rng, most=14):
    true = rng.uniform(0, 60, (rng.integers(0, most), 2))
    true = np.concatenate([true, true + rng.integers(4, 25, true.shape)], axis=1)
    near = np.repeat(true, 2, axis=0) + rng.normal(0, 2.0, (2 * len(true), 4)).round(1)
    near = near[rng.random(len(near)) < 0.7]
    far = rng.uniform(0, 60, (rng.integers(0, 5), 2))
    found = np.concatenate([near, np.concatenate([far, far + 8], axis=1)])
    labels = rng.integers(1, 3, len(found)).tolist()
    scores = (rng.integers(0, 8, len(found)) / 8).tolist()
    return boxes(*found, labels=labels, scores=scores), boxes(*true, labels=rng.integers(1, 3, len(true)).tolist())


@pytest.mark.parametrize("min_score", [0.0, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_precision_is_that_of_the_competitions_rule_word_by_word(seed, min_score):
    rng = np.random.default_rng(seed)
    images = [random_image(rng) for _ in range(9)]
    found, true = zip(*images, strict=True)
    expected = [slow_precision(*image, min_score=min_score) for image in images]
    assert box_precision(found, true, min_score=min_score).tolist() == pytest.approx(expected, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        (boxes(LEFT, RIGHT, scores=[0.9, 0.8]), boxes(LEFT, RIGHT), 1.0),
        (boxes(LEFT, FAR, scores=[0.9, 0.8]), boxes(LEFT, RIGHT), 1 / 3),
        (boxes(LEFT, LEFT, scores=[0.9, 0.8]), boxes(LEFT), 1 / 2),
        (boxes(LEFT, scores=[0.9], labels=[2]), boxes(LEFT), 0.0),
        (boxes((0, 0, 10, 7.2), scores=[0.9]), boxes(LEFT), 5 / 6),
        (boxes((0, 0, 10, 5), scores=[0.9]), boxes(LEFT), 0.0),
        (boxes(scores=[]), boxes(), math.nan),
        (boxes(scores=[]), boxes(LEFT), 0.0),
        (boxes(LEFT, scores=[0.9]), boxes(), 0.0),
        (boxes(LEFT, scores=[0.2]), boxes(LEFT), 0.0),
        (boxes(LEFT, scores=[0.2]), boxes(), math.nan),
        (boxes(LEFT, RIGHT, scores=[float("nan"), 0.8]), boxes(LEFT, RIGHT), 1 / 2),
    ],
    ids=[
        "all", "one of two", "twice", "other class", "five of six overlaps", "just half is no hit", "nothing to find",
        "missed", "false in an empty image", "unsure", "unsure in an empty image", "no score",
    ],
)  # fmt: skip
def test_precision_of_an_image(found, true, expected):
    both = box_precision([found, boxes(LEFT, scores=[1.0])], [true, boxes(LEFT)], min_score=0.5)
    assert both.tolist() == pytest.approx([expected, 1.0], nan_ok=True)


def test_the_surer_prediction_takes_the_truth_even_where_the_other_fits_better():
    found = boxes((0, 0, 10, 8), LEFT, scores=[0.9, 0.8])
    assert box_precision([found], [boxes(LEFT)]).tolist() == pytest.approx([1 / 2])


@pytest.mark.parametrize("box", [(3, 3, 3, 3), (5, 5, 1, 1), (float("nan"),) * 4, (0, 0, float("inf"), float("inf"))])
def test_a_prediction_without_an_area_is_a_false_alarm(box):
    assert box_precision([boxes(box, LEFT, scores=[0.9, 0.8])], [boxes(LEFT)]).tolist() == pytest.approx([1 / 2])


def test_nothing_is_read_from_the_device():
    found = {"boxes": torch.zeros(5, 4), "scores": torch.zeros(5), "labels": torch.ones(5, dtype=torch.int64)}
    on_meta = {name: part.to("meta") for name, part in found.items()}
    none = {name: part[:0] for name, part in on_meta.items()}
    assert box_precision([on_meta, none], [none, on_meta]).shape == (2,)
