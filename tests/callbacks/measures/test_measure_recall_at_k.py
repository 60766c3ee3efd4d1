import math

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from assay.callbacks.measures import recall_at_k as measure
from assay.callbacks.measures.recall_at_k import DISTANCES, nearest_of_class, recall_at_k


def make(count=60, classes=5, size=8, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    vectors = rng.normal(size=(count, size)) + 0.8 * rng.normal(size=(classes, size))[labels]
    return torch.from_numpy(vectors), torch.from_numpy(labels)


def slow(vectors, labels, k, distance):
    """Sort the others of each query by distance, those of another class first where equal."""
    vectors, labels = vectors.double().tolist(), labels.tolist()
    hits, queries = 0, 0
    for i, query in enumerate(vectors):
        others = []
        for j, other in enumerate(vectors):
            if j == i:
                continue
            if distance == "cosine":
                norms = math.hypot(*query) * math.hypot(*other)
                far = -sum(a * b for a, b in zip(query, other, strict=True)) / norms
            else:
                far = math.dist(query, other)
            others.append((far, labels[j] == labels[i]))
        if any(is_own for _, is_own in others):
            queries += 1
            hits += any(is_own for _, is_own in sorted(others)[:k])
    return hits / queries if queries else math.nan


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_a_slow_loop_finds(distance, seed):
    vectors, labels = make(seed=seed, classes=12)
    expected = [slow(vectors, labels, k, distance) for k in (1, 3, 7, 100)]
    assert 0.1 < expected[0] < 0.9
    assert recall_at_k(vectors, labels, (1, 3, 7, 100), distance) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("distance", DISTANCES)
def test_it_is_what_the_neighbours_of_scikit_learn_say(distance):
    vectors, labels = make(count=400, classes=20)
    found = NearestNeighbors(n_neighbors=6, metric=distance).fit(vectors).kneighbors(return_distance=False)
    assert len(np.unique(labels)) == 20
    is_own = labels.numpy()[found] == labels.numpy()[:, None]
    for k in (1, 2, 6):
        assert recall_at_k(vectors, labels, [k], distance) == [pytest.approx(is_own[:, :k].any(axis=1).mean())]


@pytest.mark.parametrize("pairs", [1, 61, 1000, 3600])
@pytest.mark.parametrize("distance", DISTANCES)
def test_it_does_not_depend_on_how_many_are_compared_at_a_time(pairs, distance, monkeypatch):
    vectors, labels = make()
    expected = nearest_of_class(vectors, labels, distance)
    monkeypatch.setattr(measure, "_BLOCK", pairs)
    assert torch.equal(nearest_of_class(vectors, labels, distance), expected)


@pytest.mark.parametrize("distance", DISTANCES)
def test_vectors_that_are_all_the_same_find_nothing(distance):
    labels = torch.arange(40) % 4
    assert recall_at_k(torch.ones(40, 8), labels, (1, 30, 31), distance) == [0.0, 0.0, 1.0]
    assert recall_at_k(torch.zeros(40, 8), labels, (1,), distance) == [0.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("distance", DISTANCES)
def test_what_is_not_finite_finds_nothing_and_is_found_by_nobody(value, distance):
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0], [value, 1.0]])
    labels = torch.tensor([0, 0, 1, 1, 1])
    assert nearest_of_class(vectors, labels, distance).tolist() == [0, 0, 0, 0, 2]


def test_a_sample_that_is_alone_in_its_class_is_searched_and_does_not_ask():
    vectors = torch.tensor([[0.0], [1.0], [1.5], [10.0], [10.1]])
    labels = torch.tensor([0, 7, 0, 1, 1])
    assert nearest_of_class(vectors, labels, "euclidean").tolist() == [1, -1, 1, 0, 0]
    assert recall_at_k(vectors, labels, (1, 2), "euclidean") == [0.5, 1.0]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_where_no_two_samples_share_a_class_there_is_no_value(count):
    values = recall_at_k(torch.rand(count, 2), torch.arange(count), (1, 5))
    assert all(math.isnan(value) for value in values)
