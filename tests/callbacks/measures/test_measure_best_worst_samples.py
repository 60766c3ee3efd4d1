import math

import numpy as np
import pytest

from assay.callbacks.measures.best_worst_samples import BestWorstSamples, is_no_success


def feed(measure, scores, *, ids=None, batch=7, positions=None):
    """Hand over the scores in batches; what is kept of a sample is its position."""
    positions = list(positions or range(len(scores)))
    ids = list(ids or positions)
    taken = []

    def take(first):
        def one(index):
            taken.append(first + index)
            return first + index

        return one

    for first in range(0, len(scores), batch):
        part = slice(first, first + batch)
        measure.update(scores[part], positions[part], ids[part], take(first))
    return taken


def by_sorting(scores, k, *, minimize):
    """The k best and k worst positions: NaN and infinite scores are the worst, the first of equals leads."""
    sign = 1 if minimize else -1
    finite = [i for i, score in enumerate(scores) if math.isfinite(score)]
    broken = [i for i, score in enumerate(scores) if not math.isfinite(score)]
    best = sorted(finite, key=lambda i: (sign * scores[i], i))[:k]
    worst = (broken + sorted(finite, key=lambda i: (-sign * scores[i], i)))[:k]
    return best, worst


@pytest.mark.parametrize("minimize", [True, False])
@pytest.mark.parametrize("k", [1, 4, 16, 1000])
@pytest.mark.parametrize("kind", ["distinct", "ties", "all equal", "some not finite", "rising", "falling"])
def test_the_kept_are_those_of_sorting_all(kind, k, minimize):
    rng = np.random.default_rng(k)
    scores = {
        "distinct": rng.normal(size=301).tolist(),
        "ties": rng.integers(0, 5, 301).tolist(),
        "all equal": [0.5] * 301,
        "some not finite": np.where(rng.random(301) < 0.02, rng.choice([np.nan, np.inf, -np.inf], 301), 1.0).tolist(),
        "rising": list(range(301)),
        "falling": list(range(301, 0, -1)),
    }[kind]
    measure = BestWorstSamples(k, minimize=minimize)
    feed(measure, scores)
    best, worst = by_sorting(scores, k, minimize=minimize)
    assert [sample.position for sample in measure.best] == best
    assert [sample.position for sample in measure.worst] == worst
    assert [sample.parts for sample in measure.worst] == worst
    assert [repr(sample.score) for sample in measure.worst] == [repr(float(scores[i])) for i in worst]
    assert measure.seen == 301


def test_few_samples_are_taken_however_many_come():
    scores = np.random.default_rng(0).normal(size=20_000).tolist()
    taken = feed(BestWorstSamples(8), scores, batch=50)
    assert len(taken) < 2 * 8 * (1 + math.log(20_000 / 8)) * 1.5  # of a random order each end expects k (1 + ln(n / k))


def test_a_sample_that_leads_at_both_ends_is_taken_once():
    assert feed(BestWorstSamples(3), [0.3, 0.1]) == [0, 1]


@pytest.mark.parametrize("batch", [1, 3, 10])
def test_a_sample_that_comes_again_counts_once_with_its_most_extreme_score(batch):
    measure = BestWorstSamples(2)
    feed(measure, [5.0, 4.0, 6.0, 1.0, 2.0, 3.0], ids=["a", "b", "a", "b", "a", "c"], batch=batch)
    assert [(sample.sample_id, sample.score) for sample in measure.worst] == [("a", 6.0), ("b", 4.0)]
    assert [(sample.sample_id, sample.score) for sample in measure.best] == [("b", 1.0), ("a", 2.0)]


def test_repeated_samples_equal_the_extremes_of_each_id():
    rng = np.random.default_rng(3)
    scores, ids = rng.normal(size=500).tolist(), rng.integers(0, 60, 500).tolist()
    measure = BestWorstSamples(10)
    feed(measure, scores, ids=ids)
    most = {i: max(score for score, other in zip(scores, ids, strict=True) if other == i) for i in set(ids)}
    assert [sample.sample_id for sample in measure.worst] == sorted(most, key=most.get, reverse=True)[:10]


def test_nothing_seen_means_nothing_kept():
    measure = BestWorstSamples(4)
    assert (measure.best, measure.worst, measure.seen) == ([], [], 0)
    feed(measure, [math.nan, math.inf])
    assert measure.best == []
    assert len(measure.worst) == 2


@pytest.mark.parametrize(
    ("score", "worst", "minimize", "expected"),
    [
        (0.0, [0.0, 0.0], False, True),
        (0.3, [0.0], False, False),
        (1.0, [1.0], False, False),  # all are perfect
        (0.0, [-2.0, -1.0], False, False),  # as of a log-likelihood, of which 0 is the best
        (0.0, [math.nan, 0.0], False, True),
        (0.0, [math.nan], False, False),
        (0.0, [0.0], True, False),  # a loss of 0 is a success
    ],
)
def test_a_score_of_0_is_no_success_where_nothing_is_worse(score, worst, minimize, expected):
    assert is_no_success(score, worst, minimize=minimize) is expected
