"""Counts of boxes against a loop over boxes, and their curves against COCO's own evaluation."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from assay.callbacks.measures.box_counts import (
    BACKGROUND,
    BINS,
    BoxCounts,
    box_curves,
    merge_counts,
    overall_curves,
    pair_matrix,
)
from assay.callbacks.support.checkpoint_values import from_plain, to_plain
from assay.callbacks.support.distributed import gather_objects

LABELS = (1, 2, 5)


def random_boxes(rng, count):
    corner = rng.uniform(0, 60, (count, 2))
    return np.concatenate([corner, corner + rng.integers(5, 30, (count, 2))], axis=1)


def images(count, seed, crowds=True):
    """Truth, and predictions near it of which some have another label; no two scores of all images are equal."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(BINS - 1) + 1
    for _ in range(count):
        true = random_boxes(rng, rng.integers(0, 8))
        near = true[rng.random(len(true)) < 0.8]
        found = np.concatenate([near + rng.normal(0, 2, near.shape), random_boxes(rng, rng.integers(0, 9))])
        chosen, scores = scores[: len(found)], scores[len(found) :]
        labels = rng.choice(LABELS, len(true))
        of_found = np.concatenate([labels[: len(near)], rng.choice(LABELS, len(found) - len(near))])
        is_crowd = (rng.random(len(true)) < 0.2 * crowds).astype(np.int64)
        yield (
            {"boxes": found, "labels": of_found, "scores": (chosen / BINS).astype(np.float32)},
            {"boxes": true, "labels": labels, "iscrowd": is_crowd},
        )


def counts_of(data, min_score=0.4, min_iou=0.5):
    counts = BoxCounts(min_score, min_iou)
    for found, true in data:
        counts.update(found, true)
    return counts


def area(box):
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def overlap(one, other):
    return area([*np.maximum(one[:2], other[:2]), *np.minimum(one[2:], other[2:])])


def iou(one, other):
    return overlap(one, other) / (area(one) + area(other) - overlap(one, other) or 1)


def match(predictions, truths, same_label, min_iou):
    """Return {prediction: truth}; predictions come in the order of their scores."""
    found, free = {}, list(truths)
    for number, box, label in predictions:
        fits = [one for one in free if (not same_label or one[2] == label) and iou(box, one[1]) >= min_iou]
        if fits:
            chosen = max(fits, key=lambda one: iou(box, one[1]))
            free.remove(chosen)
            found[number] = chosen[0]
    return found


def slow_pairs(data, min_score, min_iou):
    """Return how many boxes there are by true and by predicted label, by a loop over boxes."""
    pairs = {}

    def add(true, predicted):
        pairs[true, predicted] = pairs.get((true, predicted), 0) + 1

    for found, true in data:
        order = sorted(range(len(found["scores"])), key=lambda i: -found["scores"][i])
        predictions = [(i, found["boxes"][i], found["labels"][i]) for i in order if found["scores"][i] >= min_score]
        alone = [
            (j, b, t)
            for j, (b, t) in enumerate(zip(true["boxes"], true["labels"], strict=True))
            if not true["iscrowd"][j]
        ]
        crowds = [(b, t) for b, t, c in zip(true["boxes"], true["labels"], true["iscrowd"], strict=True) if c]
        hits = match(predictions, alone, True, min_iou)

        def in_crowd(box, label, crowds=crowds):
            return any(t == label and overlap(box, b) >= max(min_iou * area(box), 1e-9) for b, t in crowds)

        others = [(i, box, label) for i, box, label in predictions if i not in hits and not in_crowd(box, label)]
        confused = match(others, [one for one in alone if one[0] not in hits.values()], False, min_iou)
        for j, _, label in alone:
            by = [i for i, other in {**hits, **confused}.items() if other == j]
            add(label, found["labels"][by[0]] if by else BACKGROUND)
        for i, _, label in others:
            if i not in confused:
                add(BACKGROUND, label)
    return pairs


@pytest.mark.parametrize(("min_score", "min_iou"), [(0.0, 0.5), (0.4, 0.5), (0.7, 0.2), (0.4, 0.8)])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_of_a_slow_loop(min_score, min_iou, seed):
    data = [*images(30, seed)]
    counts = counts_of(data, min_score, min_iou)
    found = {(true, label): count for true, row in counts.pairs.items() for label, count in row.items()}
    assert found == slow_pairs(data, min_score, min_iou)
    if (min_score, min_iou) == (0.4, 0.5):
        assert any(true != label and BACKGROUND not in (true, label) for true, label in found)
    labels, matrix = pair_matrix(counts)
    assert matrix[-1, -1] == 0
    names = [*labels, BACKGROUND]
    assert {(names[i], names[j]): matrix[i, j] for i, j in zip(*np.nonzero(matrix), strict=True)} == found


def of_coco(data, label=None):
    """Return COCO's precision at an IoU of 0.5 by recall, [101], and its largest recall; -1 where nothing is true."""
    true, found = [], []
    for number, (predicted, truth) in enumerate(data):
        for entries, of in ((true, truth), (found, predicted)):
            for place, (left, top, right, bottom) in enumerate(of["boxes"].tolist()):
                entries.append(
                    {"id": len(entries) + 1, "image_id": number, "category_id": int(of["labels"][place]),
                     "bbox": [left, top, right - left, bottom - top], "area": 1.0,
                     "iscrowd": int(of["iscrowd"][place]) if "iscrowd" in of else 0,
                     "score": float(of["scores"][place]) if "scores" in of else 0.0}
                )  # fmt: skip
    sides = COCO(), COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        for side, entries in zip(sides, (true, found), strict=True):
            categories = [{"id": label} for label in LABELS]
            whole = {"images": [{"id": number} for number in range(len(data))], "categories": categories}
            side.dataset = {**whole, "annotations": entries}
            side.createIndex()
        evaluation = COCOeval(*sides, "bbox")
        evaluation.params.catIds = [label]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"][0, :, 0, 0, -1], evaluation.eval["recall"][0, 0, 0, -1]


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_are_those_of_pycocotools_with_crowds(seed):
    data = [*images(40, seed)]
    curves = box_curves(counts_of(data))
    assert curves.labels == list(LABELS)
    for label, precision, recall in zip(curves.labels, curves.precision, curves.recall, strict=True):
        expected, most = of_coco(data, label)
        assert recall[0] == most
        levels = np.linspace(0, 1, 101)
        known = np.isfinite(precision)
        # As no two scores are equal, each prediction has a threshold of its own.
        interpolated = [max(precision[known & (recall >= level)], default=0.0) for level in levels]
        assert interpolated == pytest.approx(expected.tolist(), abs=1e-9)


def test_curves_are_counts_from_each_threshold_on():
    data = [*images(30, 4)]
    counts = counts_of(data)
    curves, whole = box_curves(counts), overall_curves(counts)
    for threshold in (0.0, 0.001, 0.25, 0.5, 0.731, 0.999):
        place = round(threshold * BINS)
        pairs = slow_pairs(data, threshold, 0.5)
        hits = {label: pairs.get((label, label), 0) for label in LABELS}
        predicted = {label: sum(n for (_, of), n in pairs.items() if of == label) for label in LABELS}
        true = {label: sum(n for (of, _), n in pairs.items() if of == label) for label in LABELS}
        for index, label in enumerate(LABELS):
            precision = hits[label] / predicted[label] if predicted[label] else np.nan
            assert curves.precision[index, place] == pytest.approx(precision, nan_ok=True)
            assert curves.recall[index, place] == pytest.approx(hits[label] / true[label])
            assert curves.f1[index, place] == pytest.approx(2 * hits[label] / (predicted[label] + true[label]))
        assert whole.f1[0, place] == pytest.approx(
            2 * sum(hits.values()) / (sum(predicted.values()) + sum(true.values()))
        )
    best, thresholds = curves.best
    for row, value, threshold in zip(curves.f1, best, thresholds, strict=True):
        assert value == np.nanmax(row) == row[round(threshold * BINS)]
        assert (row[: round(threshold * BINS)] < value).all()


def test_where_nothing_is_hit_there_is_no_best_threshold():
    far = {"boxes": np.array([[0.0, 0, 5, 5]]), "labels": np.array([1])}
    counts = counts_of([({**far, "scores": np.array([0.9], np.float32)}, {**far, "boxes": far["boxes"] + 50})])
    curves = box_curves(counts)
    assert curves.f1[0, 0] == curves.recall[0, 0] == 0.0
    assert np.isnan(curves.precision[0, 950]) and curves.f1[0, 950] == 0.0
    assert np.isnan(curves.best).all()
    assert counts.pairs == {1: {BACKGROUND: 1}, BACKGROUND: {1: 1}}


def test_nothing_at_all_has_no_label():
    none = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, np.int64)}
    counts = counts_of([({**none, "scores": np.zeros(0, np.float32)}, none)])
    assert counts.images == 1
    assert box_curves(counts).f1.shape == (0, BINS)
    assert np.isnan(overall_curves(counts).f1).all()
    assert pair_matrix(counts)[1].tolist() == [[0]]


def test_a_score_on_a_threshold_is_above_it_in_single_precision_too():
    box = {"boxes": np.array([[0.0, 0, 5, 5]]), "labels": np.array([1])}
    counts = counts_of([({**box, "scores": np.array([0.7], np.float32)}, box)], min_score=0.7)
    assert counts.pairs == {1: {1: 1}}


def test_predictions_that_are_not_finite_or_not_probabilities_are_counted():
    box = {"boxes": np.array([[0.0, 0, 5, 5]] * 4), "labels": np.ones(4, dtype=np.int64)}
    box["boxes"][0, 0] = np.inf
    found = {**box, "scores": np.array([0.9, np.nan, 1.5, -2.0], np.float32)}
    counts = counts_of([(found, {"boxes": box["boxes"][1:2], "labels": box["labels"][:1]})])
    assert (counts.left_out, counts.outside) == (2, 2)
    assert counts.by_score[1][:, [0, -1]].tolist() == [[1, 0], [0, 1]]


def counts_of_rank(rank, data, size):
    """Count every size-th image, or nothing on the last rank; return the counts of all ranks as plain values."""
    mine = data[rank :: size - 1] if rank < size - 1 else []
    whole = merge_counts(gather_objects(counts_of(mine)))
    return {**vars(whole), "by_score": {label: rows.tolist() for label, rows in whole.by_score.items()}}


def test_three_ranks_of_which_one_is_idle_have_the_counts_of_one(rank_processes):
    data = [*images(20, 2)]
    alone = counts_of_rank(0, data, 2)
    for answer in rank_processes.run(3, counts_of_its_rank, data):
        assert answer == alone


def counts_of_its_rank(data):
    import torch.distributed as dist

    return counts_of_rank(dist.get_rank(), data, dist.get_world_size())


def test_counts_go_into_a_checkpoint_and_back():
    data = [*images(10, 1)]
    plain = counts_of(data)
    halfway = from_plain(to_plain(counts_of(data[:4])))
    for found, true in data[4:]:
        halfway.update(found, true)
    assert pair_matrix(halfway)[1].tolist() == pair_matrix(plain)[1].tolist()
    assert np.array_equal(box_curves(halfway).f1, box_curves(plain).f1)
