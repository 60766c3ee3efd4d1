"""The weighted AUC against the competition's definition, computed slowly from scikit-learn's curve."""

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from assay.callbacks import UsageError
from assay.callbacks.measures.weighted_auc import WeightedAUC, weighted_area

BOUNDS, WEIGHTS = [0.0, 0.4, 1.0], [2.0, 1.0]


def by_definition(target, score, bounds=BOUNDS, weights=WEIGHTS):
    """Cut the curve at the bounds, add up trapezoids band by band, and divide by what a perfect curve has."""
    false, true, _ = sk.roc_curve(target, score, drop_intermediate=False)
    total = best = 0.0
    for low, high, weight in zip(bounds, bounds[1:], weights, strict=False):
        points = []
        for (f0, t0), (f1, t1) in zip(
            zip(false, true, strict=True), zip(false[1:], true[1:], strict=True), strict=False
        ):
            points.append((f0, t0))
            points += [(f0 + (f1 - f0) * (cut - t0) / (t1 - t0), cut) for cut in (low, high) if t0 < cut < t1]
        points.append((false[-1], true[-1]))
        heights = [min(max(t - low, 0.0), high - low) for _, t in points]
        for index in range(1, len(points)):
            total += weight * (points[index][0] - points[index - 1][0]) * (heights[index] + heights[index - 1]) / 2
        best += weight * (high - low)
    return total / best


def by_the_published_code(target, score):
    """What the competition's public notebook does: it takes the points inside a band and runs on flat to the right."""
    false, true, _ = sk.roc_curve(target, score)
    total = 0.0
    for low, high, weight in zip(BOUNDS, BOUNDS[1:], WEIGHTS, strict=False):
        inside = (true > low) & (true < high)
        x = [*false[inside], *np.linspace(false[inside][-1], 1, 100)]
        y = [*(true[inside] - low), *[high - low] * 100]
        total += weight * sk.auc(x, y)
    return total / (0.4 * 2 + 0.6)


def draw(name, rng):
    """Return targets and logits, [N] each; ``ties`` and the like have equal scores on both sides."""
    count = 400
    target = rng.permutation(np.arange(count) % 4 > 0).astype(np.int64)
    noise = rng.normal(size=count)
    score = {
        "informed": noise + target,
        "well informed": noise + 3 * target,
        "against": noise - target,
        "random": noise,
        "constant": np.zeros(count),
        "perfect": 8.0 * target - 4,
        "ties": np.round(noise + target),
        "two values": np.where(rng.random(count) < 0.3 + 0.4 * target, 1.0, -1.0),
        "few positives are sure": np.where((target == 1) & (rng.random(count) < 0.4), 5.0, noise),
        "far out": 30 * (noise + target),
    }[name]
    return target, score.astype(np.float32)


CASES = [
    "informed", "well informed", "against", "random", "constant", "perfect", "ties", "two values",
    "few positives are sure", "far out",
]  # fmt: skip


def measure(target, score, **options):
    metric = WeightedAUC(**options)
    for part in np.array_split(np.arange(len(target)), 3):
        metric.update(torch.as_tensor(score[part]), torch.as_tensor(target[part]))
    return float(metric.compute())


@pytest.mark.parametrize("name", CASES)
def test_ten_cases_equal_the_definition(name):
    target, score = draw(name, np.random.default_rng(len(name)))
    shared = 2 / 1.4 * 1e-3  # pairs that share one of the bins
    assert measure(target, score, bins=2**16) == pytest.approx(by_definition(target, score), abs=shared)


@pytest.mark.parametrize("name", ["informed", "well informed", "against", "random", "far out"])
def test_without_ties_the_definition_is_what_the_published_code_computes(name):
    target, score = draw(name, np.random.default_rng(7))
    assert by_definition(target, score) == pytest.approx(by_the_published_code(target, score), abs=1e-9)


def test_the_area_itself_is_exact_for_curves_with_slanted_lines():
    rng = np.random.default_rng(3)
    for bounds, weights in ((BOUNDS, WEIGHTS), ([0, 0.1, 0.35, 1], [3, 0, 1]), ([0, 1], [5])):
        target, score = draw("ties", rng)
        false, true, _ = sk.roc_curve(target, score, drop_intermediate=False)
        points = (torch.as_tensor(of[::-1].copy()) for of in (false, true))
        found = weighted_area(*points, bounds, weights)
        assert float(found) == pytest.approx(by_definition(target, score, bounds, weights), abs=1e-12)


def test_one_band_is_the_area_under_the_curve():
    target, score = draw("ties", np.random.default_rng(1))
    found = measure(target, score, bounds=[0, 1], weights=[3])
    assert found == pytest.approx(sk.roc_auc_score(target, score), abs=1e-6)


def test_a_perfect_score_has_1_and_one_that_says_nothing_41_of_70():
    target, score = draw("perfect", np.random.default_rng(1))
    assert measure(target, score) == 1.0
    assert measure(target, np.zeros_like(score)) == pytest.approx(41 / 70, abs=1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric WeightedAUC was called before:UserWarning")
def test_it_is_undefined_without_one_of_the_classes_or_with_a_score_or_target_that_is_none():
    score = np.linspace(-1, 1, 9, dtype=np.float32)
    assert np.isnan(measure(np.ones(9, dtype=np.int64), score))
    assert np.isnan(float(WeightedAUC().compute()))
    target = (np.arange(9) % 2).astype(np.int64)
    assert not np.isnan(measure(target, score))
    assert np.isnan(measure(target, np.where(np.arange(9) == 4, np.nan, score)))
    assert np.isnan(measure(np.where(np.arange(9) == 4, 2, target), score))


def _score(rank, size, target, score):
    metric = WeightedAUC()
    metric.update(torch.as_tensor(score[rank::size]), torch.as_tensor(target[rank::size]))
    return float(metric.compute())


def test_all_ranks_have_the_value_of_all_samples(ranks):
    target, score = draw("informed", np.random.default_rng(5))
    found = ranks.run(_score, ranks.size, target, score)
    assert found == [pytest.approx(measure(target, score), abs=1e-12)] * len(found)


def test_nothing_is_read_from_the_device():
    metric = WeightedAUC().to("meta")
    metric.update(torch.zeros(4, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta"))
    assert metric.compute().device.type == "meta"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bounds": [0, 0.4]}, r"bounds must rise from 0 to 1, got \(0, 0.4\)"),
        ({"bounds": [0, 0.7, 0.4, 1]}, "bounds must rise"),
        ({"bounds": []}, "bounds must rise"),
        ({"weights": [1]}, r"weights must be 2, none negative and not all 0, got \(1,\)"),
        ({"weights": [0, 0]}, "weights must be 2"),
        ({"weights": [2, -1]}, "weights must be 2"),
        ({"bins": 15}, "bins must be an even integer from 16 to 65536, got 15"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(UsageError, match=message):
        WeightedAUC(**options)
