"""What detections say against true boxes, against plain loops over pairs of boxes."""

import math

import numpy as np
import pytest

from assay.callbacks.measures.box_evidence import EVIDENCE, box_evidence


def boxes_of(*rows):
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def found_of(*rows):
    """Return detections of rows of left, top, right, bottom, score and label."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].astype(np.int64)}


def true_of(*rows, crowds=None):
    """Return true boxes of rows of left, top, right, bottom and label."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    more = {} if crowds is None else {"iscrowd": np.array(crowds)}
    return {"boxes": table[:, :4], "labels": table[:, 4].astype(np.int64), **more}


def evidence(found, true, min_score=0.5, min_iou=0.5):
    return dict(zip(EVIDENCE, box_evidence(found, true, min_score=min_score, min_iou=min_iou), strict=True))


def corners(values, of):
    return [values[f"{of}_{side}"] for side in ("x1", "y1", "x2", "y2")]


def shared(one, other):
    width, height = (min(one[at + 2], other[at + 2]) - max(one[at], other[at]) for at in (0, 1))
    return max(width, 0.0) * max(height, 0.0)


def area(box):
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def iou(one, other):
    both = shared(one, other)
    return both / (area(one) + area(other) - both) if both else 0.0


def widened(box):
    return [box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1]


def by_loops(found, true, min_score, min_iou):
    """Return the same by loops over detections and true boxes, and the rules of ``box_evidence`` word by word."""
    detections = [*zip(*(found[name].tolist() for name in ("boxes", "scores", "labels")), strict=True)]
    crowd = true.get("iscrowd", np.zeros(len(true["labels"]))).tolist()
    all_true = [*zip(true["boxes"].tolist(), true["labels"].tolist(), crowd, strict=True)]
    single = [(box, label) for box, label, is_crowd in all_true if not is_crowd]
    free, hits = set(range(len(single))), set()
    for place in sorted(range(len(detections)), key=lambda at: -detections[at][1]):
        box, _, label = detections[place]
        near = [(iou(box, single[at][0]), -at) for at in free if single[at][1] == label]
        best = max(near, default=(0.0, 0))
        if best[0] >= min_iou and best[0] > 0:
            hits.add(place)
            free.discard(-best[1])
    scores = [detections[place][1] for place in hits]
    values = dict.fromkeys(EVIDENCE, math.nan)
    if scores:
        values["hit_score"] = sum(scores) / len(scores)
    least = values["hit_score"] if scores else min_score
    for box, score, label in detections:
        wide = widened(box)
        pairs = [(wide, widened(other)) for other, _ in single]
        is_near = any(
            iou(a, b) >= 0.3 or ((both := shared(a, b)) and both >= 0.7 * min(area(a), area(b))) for a, b in pairs
        )
        in_crowd = any(shared(box, other) >= 0.5 * area(box) > 0 for other, _, is_crowd in all_true if is_crowd)
        if not is_near and not in_crowd and not score <= values["extra_score"]:
            values |= {"extra_score": score, "extra_label": label}
            values |= dict(zip(("extra_x1", "extra_y1", "extra_x2", "extra_y2"), box, strict=True))
    swapped, lacking = [], []
    for place, (box, label) in enumerate(single):
        over = [(iou(widened(other), widened(box)), score, of, at) for at, (other, score, of) in enumerate(detections)]
        support = max([score for overlap, score, _, _ in over if overlap >= 0.3], default=0.0)
        own = max([score for overlap, score, of, _ in over if overlap >= 0.3 and of == label], default=0.0)
        rivals = [
            (score, -at, of)
            for overlap, score, of, at in over
            if overlap >= min_iou and of != label and at not in hits and score >= least
        ]
        rival = max(rivals, default=(0.0, 0, None))
        swapped.append((rival[0] - own, -place, rival[2]))
        covered = [shared(box, other) / area(box) for at, (other, _) in enumerate(single) if at != place and area(box)]
        if min(box[2] - box[0], box[3] - box[1]) >= 8 and max(covered, default=0.0) < 0.3:
            lacking.append((1 - support, -place, None))
    if single and (max(swapped)[0] > 0 or lacking):
        doubt, place, likely = max(swapped) if max(swapped)[0] > 0 else max(lacking)
        box, label = single[-place]
        values |= {"doubt": doubt, "doubt_label": label, "doubt_likely": math.nan if likely is None else likely}
        values |= dict(zip(("doubt_x1", "doubt_y1", "doubt_x2", "doubt_y2"), box, strict=True))
    return values


def scene(seed):
    """Return detections and true boxes by chance, some of which are of the same place, tiny, or crowds."""
    draw = np.random.default_rng(seed)
    count, more = int(draw.integers(0, 7)), int(draw.integers(0, 12))
    corner, size = draw.integers(0, 60, (count, 2)), draw.integers(1, 30, (count, 2))
    true = {"boxes": np.concatenate([corner, corner + size], axis=1).astype(np.float32)}
    true |= {"labels": draw.integers(1, 4, count), "iscrowd": draw.random(count) < 0.15}
    moved = true["boxes"] + draw.integers(-3, 4, true["boxes"].shape)
    corner, size = draw.integers(0, 60, (more, 2)), draw.integers(1, 30, (more, 2))
    others = np.concatenate([corner, corner + size], axis=1)
    keeps = draw.random(count) < 0.8
    swapped = np.where(draw.random(count) < 0.3, draw.integers(1, 4, count), true["labels"])
    boxes = np.concatenate([moved[keeps], others]).astype(np.float32)
    found = {"boxes": boxes, "labels": np.concatenate([swapped[keeps], draw.integers(1, 4, more)])}
    # Of few different values, so that there are equal ones.
    return {**found, "scores": draw.integers(1, 40, len(boxes)) / 40}, true


@pytest.mark.parametrize("seed", range(60))
def test_evidence_equals_loops(seed):
    found, true = scene(seed)
    for min_score, min_iou in ((0.5, 0.5), (0.3, 0.4)):
        expected = by_loops(found, true, min_score, min_iou)
        assert evidence(found, true, min_score, min_iou) == pytest.approx(expected, nan_ok=True)


def test_scenes_of_the_loops_hold_each_kind_of_evidence():
    values = [evidence(*scene(seed)) for seed in range(60)]
    is_swapped = [not math.isnan(of["doubt_likely"]) for of in values]
    assert 5 < sum(is_swapped) < 55
    assert sum(not math.isnan(of["extra_score"]) for of in values) > 5


def test_a_detection_far_from_all_boxes_is_extra():
    true = true_of((0, 0, 20, 20, 1))
    values = evidence(found_of((0, 0, 20, 20, 0.9, 1), (60, 60, 80, 80, 0.6, 3), (60, 0, 80, 20, 0.8, 2)), true)
    assert (values["extra_score"], values["extra_label"]) == (0.8, 2)
    assert corners(values, "extra") == [60, 0, 80, 20]
    assert values["hit_score"] == 0.9


@pytest.mark.parametrize(
    "box",
    [
        (2, 2, 22, 22),  # found once more, a little off
        (10, 0, 30, 20),  # overlaps by a third
        (4, 4, 9, 9),  # a part
        (-30, -30, 60, 60),  # a group
    ],
)
def test_second_detections_parts_and_groups_are_no_extra_ones(box):
    values = evidence(found_of((0, 0, 20, 20, 0.9, 1), (*box, 0.8, 2)), true_of((0, 0, 20, 20, 1)))
    assert math.isnan(values["extra_score"]) and math.isnan(values["extra_label"])


def test_a_tiny_box_that_is_off_by_a_pixel_is_found():
    values = evidence(found_of((11, 11, 14, 14, 0.9, 1)), true_of((10, 10, 13, 13, 1)))
    assert math.isnan(values["extra_score"]) and math.isnan(values["doubt"])
    values = evidence(found_of((12, 12, 20, 20, 0.9, 1)), true_of((10, 10, 18, 18, 1)))
    assert math.isnan(values["extra_score"]) and values["doubt"] == pytest.approx(0.1)


def test_tiny_boxes_and_those_that_overlap_need_no_support():
    tiny = evidence(found_of(), true_of((10, 10, 17, 40, 1)))
    assert math.isnan(tiny["doubt"])
    crowded = true_of((0, 0, 40, 40, 1), (25, 0, 65, 40, 1), (80, 0, 99, 20, 2))
    assert corners(evidence(found_of((0, 0, 40, 40, 0.9, 1)), crowded), "doubt") == [80, 0, 99, 20]


def test_what_a_crowd_covers_is_no_extra_detection_and_a_crowd_is_not_in_doubt():
    true = true_of((0, 0, 60, 60, 1), (80, 80, 99, 99, 1), crowds=[1, 0])
    values = evidence(found_of((40, 40, 70, 60, 0.9, 1), (80, 80, 99, 99, 0.7, 1)), true)
    assert math.isnan(values["extra_score"])
    assert corners(values, "doubt") == [80, 80, 99, 99]


def test_the_box_that_no_detection_supports_is_in_doubt():
    true = true_of((0, 0, 20, 20, 1), (40, 40, 60, 60, 2), (70, 70, 90, 90, 1))
    found = found_of((0, 0, 20, 20, 0.9, 1), (70, 70, 90, 90, 0.4, 2), (40, 40, 52, 52, 0.25, 2))
    values = evidence(found, true)
    assert (values["doubt"], values["doubt_label"]) == (0.75, 2)
    assert math.isnan(values["doubt_likely"]) and corners(values, "doubt") == [40, 40, 60, 60]


def test_a_box_that_another_label_finds_as_surely_as_others_are_found_is_in_doubt_before_one_without_support():
    true = true_of((0, 0, 20, 20, 1), (40, 40, 60, 60, 2), (70, 70, 90, 90, 1))
    found = found_of((0, 0, 20, 20, 0.8, 1), (40, 40, 60, 60, 0.85, 3), (40, 40, 61, 60, 0.25, 2))
    values = evidence(found, true)
    assert (values["doubt_label"], values["doubt_likely"]) == (2, 3)
    assert values["doubt"] == pytest.approx(0.6)
    # Less surely than others: the box lacks nothing, and another one does.
    found["scores"][1] = 0.5
    values = evidence(found, true)
    assert (values["doubt"], values["doubt_label"]) == (1.0, 1) and math.isnan(values["doubt_likely"])


def test_a_detection_of_a_neighbour_swaps_no_box():
    true = true_of((0, 0, 20, 20, 1), (3, 0, 23, 20, 2))
    values = evidence(found_of((3, 0, 23, 20, 0.9, 2)), true)
    assert math.isnan(values["doubt_likely"])


def test_without_boxes_or_detections_nothing_is_known_or_all_is_in_doubt():
    nothing = evidence(found_of(), true_of())
    assert all(math.isnan(value) for value in nothing.values())
    lacking = evidence(found_of(), true_of((0, 0, 9, 9, 4)))
    assert (lacking["doubt"], lacking["doubt_label"], corners(lacking, "doubt")) == (1.0, 4, [0, 0, 9, 9])
    extra = evidence(found_of((0, 0, 9, 9, 0.5, 4)), true_of())
    assert (extra["extra_score"], extra["extra_label"]) == (0.5, 4)


def test_detections_that_are_not_finite_are_left_out():
    found = found_of((math.nan, 0, 9, 9, 0.9, 1), (40, 40, 60, 60, math.nan, 1), (70, 70, 90, 90, 0.25, 1))
    values = evidence(found, true_of((0, 0, 9, 9, 1)))
    assert (values["extra_score"], values["doubt"]) == (0.25, 1.0)


def test_a_label_that_half_precision_does_not_hold_is_unknown():
    values = evidence(found_of((60, 60, 80, 80, 0.9, 5000)), true_of((0, 0, 9, 9, 2049)))
    assert math.isnan(values["extra_label"]) and math.isnan(values["doubt_label"])
    assert values["extra_score"] == 0.9
