import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from assay.callbacks.measures.binned_scores import BinnedScores, default_bins, one_against_rest, score_edges
from assay.callbacks.measures.score_curves import (
    at_least,
    best_thresholds,
    mean_known,
    pr_points,
    roc_points,
    shares_by_probability,
    summarize_scores,
)

SLACK = 2e-5  # of scores that float32 puts on the other side of an edge


def truth(count, share):
    return (torch.rand(count) < share).long()


def overlapping(count, share, spread=1.0, shift=2.0):
    target = truth(count, share)
    return torch.randn(count) * spread + shift * target, target


def confident():
    target = truth(20000, 0.4)
    wrong = 1 - 2 * truth(20000, 0.05)
    return (2 * target - 1) * wrong * (20 + 70 * torch.rand(20000)), target


def separable():
    target = truth(500, 0.5)
    return torch.rand(500) + 3 * target - 2, target


def rare():
    target = torch.zeros(200_000, dtype=torch.long)
    target[:20] = 1
    return torch.randn(200_000) * 2 - 9 + 5 * target, target


def infinite():
    scores, target = overlapping(1000, 0.5)
    scores[::7], scores[::11] = math.inf, -math.inf
    return scores, target


SHAPES = {
    "separable": separable,
    "overlapping": lambda: overlapping(20000, 0.3),
    "random": lambda: overlapping(20000, 0.3, shift=0.0),
    "wrong way round": lambda: overlapping(5000, 0.3, shift=-3.0),
    "all equal": lambda: (torch.full((3000,), 0.7), truth(3000, 0.01)),
    "few values": lambda: (torch.randint(-3, 4, (3000,)).float(), truth(3000, 0.2)),
    "rare positives": rare,
    "rare negatives": lambda: overlapping(50_000, 0.9995),
    "confident": confident,
    "infinite": infinite,
    "rounded to bf16": lambda: (lambda s, t: (s.bfloat16().float(), t))(*overlapping(20000, 0.3, 3.0)),
    "untrained": lambda: overlapping(20000, 0.3, 0.02, 0.005),
    "many": lambda: overlapping(300_000, 0.1),
    "three samples": lambda: (torch.tensor([0.3, 0.1, 0.2]), torch.tensor([1, 0, 1])),
}


def summarize(scores, target, bins):
    measure = BinnedScores("binary", 1, bins)
    measure.update(scores, target)
    return measure.state["counts"], summarize_scores(measure.state["counts"], score_edges("binary", 1, bins))


def check(found, index, scores, target):
    """Compare one class with scikit-learn, on scores that were not binned."""
    scores = np.nan_to_num(scores.double().numpy(), posinf=1e9, neginf=-1e9)
    auc, precision = sk.roc_auc_score(target, scores), sk.average_precision_score(target, scores)
    assert abs(found.roc_auc[index] - auc) <= found.roc_auc_bound[index] + SLACK
    assert abs(found.average_precision[index] - precision) <= found.average_precision_bound[index] + SLACK
    at_threshold = sk.f1_score(target, scores >= float(found.logit[index]))
    assert float(found.best_f1[index]) == pytest.approx(at_threshold, abs=1e-3)
    p, r, _ = sk.precision_recall_curve(target, scores)
    best = (2 * p * r / np.maximum(p + r, 1e-12)).max()
    assert best >= found.best_f1[index] - 1e-3
    assert best <= found.best_f1[index] + found.best_f1_bound[index] + 1e-3


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("bins", [16, 256, 8192])
def test_the_true_values_are_within_the_bounds(name, bins):
    scores, target = SHAPES[name]()
    _, found = summarize(scores, target, bins)
    check(found, 0, scores, target)


@pytest.mark.parametrize("name", sorted(set(SHAPES) - {"all equal", "few values", "untrained", "infinite"}))
def test_the_bounds_are_small_where_scores_are_spread(name):
    _, found = summarize(*SHAPES[name](), default_bins(1))
    assert found.roc_auc_bound[0] < 0.002
    assert found.average_precision_bound[0] < 0.005


@pytest.mark.parametrize("name", SHAPES)
def test_points_equal_those_of_scikit_learn_on_binned_scores(name):
    counts, found = summarize(*SHAPES[name](), 64)
    place = np.arange(64).repeat(2)
    scores, target, weight = place, np.tile([0, 1], 64), counts[0].T.reshape(-1).numpy()
    assert float(found.roc_auc[0]) == pytest.approx(sk.roc_auc_score(target, scores, sample_weight=weight), abs=1e-9)
    expected = sk.average_precision_score(target, scores, sample_weight=weight)
    assert float(found.average_precision[0]) == pytest.approx(expected, abs=1e-9)
    false, true = (values[0].numpy() for values in roc_points(counts))
    assert sk.auc(false, true) == pytest.approx(float(found.roc_auc[0]), abs=1e-9)
    precision, recall = (values[0].numpy() for values in pr_points(counts))
    assert -(np.diff(recall) * precision[:-1]).sum() == pytest.approx(expected, abs=1e-9)
    for edge in range(0, 64, 7):
        predicted = (scores >= edge).astype(int)
        assert recall[edge] == pytest.approx(sk.recall_score(target, predicted, sample_weight=weight), abs=1e-9)
        assert true[edge] == recall[edge]
        found_precision = sk.precision_score(target, predicted, sample_weight=weight, zero_division=1)
        assert precision[edge] == pytest.approx(found_precision, abs=1e-9)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 1), (1, 5), (3, 2), (20, 50), (7, 0)])
def test_the_bound_of_average_precision_holds_for_every_order_within_a_bin(positives, negatives):
    counts = torch.zeros(1, 2, 16, dtype=torch.int64)
    counts[0, 0, 5], counts[0, 1, 5] = negatives, positives
    counts[0, 0, 9], counts[0, 1, 9], counts[0, 0, 2] = 3, 2, 4
    found = summarize_scores(counts, score_edges("binary", 1, 16))
    target = np.array([1] * positives + [0] * negatives + [1] * 2 + [0] * 3 + [0] * 4)
    base = np.array([5.0] * (positives + negatives) + [9.0] * 5 + [2.0] * 4)
    for _ in range(200):
        steps = np.random.choice([2, 5, 1000])
        scores = base + np.random.randint(0, steps, len(base)) / steps
        for scores_in_order in (scores, base + 0.5 * target, base - 0.5 * target):
            true = sk.average_precision_score(target, scores_in_order)
            assert abs(true - found.average_precision[0]) <= found.average_precision_bound[0] + 1e-9


def test_labels_are_told_apart_as_scikit_learn_does():
    target = torch.stack([truth(3000, share) for share in (0.5, 0.1, 0.01)], dim=1)
    scores = torch.randn(3000, 3) * 3 + target
    measure = BinnedScores("multilabel", 3, 1024)
    measure.update(scores, target)
    found = summarize_scores(measure.state["counts"], score_edges("multilabel", 3, 1024))
    for index in range(3):
        check(found, index, scores[:, index], target[:, index])


@pytest.mark.parametrize("shape", [(3000, 5), (6, 4, 30, 20)])
def test_each_class_is_told_from_the_rest_as_scikit_learn_does(shape):
    logits, target = torch.randn(shape) * 3, torch.randint(0, shape[1], (shape[0], *shape[2:]))
    logits.scatter_add_(1, target.unsqueeze(1), torch.full_like(logits[:, :1], 3.0))
    target[torch.rand(target.shape) < 0.2] = 255
    measure = BinnedScores("multiclass", shape[1], 1024, 255)
    measure.update(logits, target)
    found = summarize_scores(measure.state["counts"], score_edges("multiclass", shape[1], 1024))
    kept = target.reshape(-1) != 255
    rows = one_against_rest(logits).movedim(1, -1).reshape(-1, shape[1])[kept]
    for index in range(shape[1]):
        check(found, index, rows[:, index], (target.reshape(-1)[kept] == index).long())


@pytest.mark.parametrize(("scores", "target"), [([0.1, 0.2], [1, 1]), ([0.1, 0.2], [0, 0]), ([], [])])
def test_one_truth_alone_has_no_value(scores, target):
    _, found = summarize(torch.tensor(scores), torch.tensor(target), 64)
    assert found.positives[0] == sum(target)
    for name in ("roc_auc", "roc_auc_bound", "average_precision", "best_f1", "threshold", "logit"):
        assert getattr(found, name)[0].isnan()


def test_a_mean_is_over_what_is_known():
    assert mean_known(torch.tensor([0.25, math.nan, 0.75])) == 0.5
    assert math.isnan(mean_known(torch.tensor([math.nan])))


def test_a_threshold_between_scores_keeps_its_distance():
    _, found = summarize(torch.tensor([-8.0, -4.0, 4.0, 8.0]), torch.tensor([0, 0, 1, 1]), 1024)
    assert found.best_f1[0] == 1
    assert abs(found.logit[0]) < 0.1
    assert found.threshold[0] == pytest.approx(float(found.logit[0].sigmoid()))


def test_counts_beyond_the_range_of_32_bits():
    counts = torch.zeros(1, 2, 16, dtype=torch.int64)
    counts[0, 0, :8], counts[0, 1, 8:] = 10**12, 10**10
    found = summarize_scores(counts, score_edges("binary", 1, 16))
    assert found.roc_auc[0] == 1
    assert found.average_precision[0] == 1
    assert at_least(counts)[0, 0, 0] == 8 * 10**12


def test_shares_by_probability_equal_those_of_numpy():
    scores, target = overlapping(20000, 0.3, 2.0)
    counts, _ = summarize(scores, target, 8192)
    grid = np.linspace(0, 1, 11)
    found = shares_by_probability(counts, score_edges("binary", 1, 8192), grid)
    for value in (0, 1):
        expected, _ = np.histogram(scores[target == value].double().sigmoid(), bins=grid)
        assert found[0, value] == pytest.approx(expected / expected.sum(), abs=1e-3)
    assert found.sum(axis=2) == pytest.approx(np.ones((1, 2)))


def test_shares_of_no_sample_are_unknown_and_extremes_are_kept():
    counts, _ = summarize(torch.tensor([-math.inf, -900.0, 900.0]), torch.tensor([0, 0, 0]), 64)
    found = shares_by_probability(counts, score_edges("binary", 1, 64), np.linspace(0, 1, 5))
    assert found[0, 0] == pytest.approx([2 / 3, 0, 0, 1 / 3])
    assert np.isnan(found[0, 1]).all()


@pytest.mark.parametrize("cells", [1, 600, 10**9])
def test_classes_that_are_summarized_in_groups_are_summarized_alike(cells, monkeypatch):
    logits, target = torch.randn(300, 7) * 3, torch.randint(0, 5, (300,))  # of two classes there is no sample
    measure, edges = BinnedScores("multiclass", 7, 128), score_edges("multiclass", 7, 128)
    measure.update(logits, target)
    whole = summarize_scores(measure.state["counts"], edges)
    monkeypatch.setattr("assay.callbacks.measures.score_curves._CELLS_AT_ONCE", cells)
    found = summarize_scores(measure.state["counts"], edges)
    for name, values in vars(whole).items():
        assert values.shape == (7,)
        assert torch.allclose(getattr(found, name), values, rtol=1e-12, equal_nan=True)
    assert torch.equal(best_thresholds(measure.state["counts"], edges).isnan(), whole.threshold.isnan())
    assert torch.equal(best_thresholds(measure.state["counts"], edges)[:5], whole.threshold[:5])
    assert whole.threshold.isnan().tolist() == [False] * 5 + [True] * 2
