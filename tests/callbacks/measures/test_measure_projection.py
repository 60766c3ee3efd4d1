"""Points of vectors, against scikit-learn's own."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from assay.callbacks.measures.projection import principal, project


def clouds(count=60, size=12, seed=0):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, count)
    return rng.normal(size=(count, size)) + 6 * rng.normal(size=(3, size))[classes], classes


def test_pca_is_that_of_scikit_learn_but_for_signs():
    vectors, _ = clouds()
    found, expected = project(vectors, "pca"), PCA(2).fit_transform(vectors)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-9)
    np.testing.assert_allclose(project(-vectors + 5, "pca"), -found, atol=1e-9)


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_neighbours_stay_neighbours_and_the_points_are_the_same_each_time(method):
    if method == "umap":
        pytest.importorskip("umap")
    vectors, classes = clouds()
    points = project(vectors, method)
    assert trustworthiness(vectors, points) > 0.9
    means = np.stack([points[classes == number].mean(axis=0) for number in range(3)])
    nearest = np.linalg.norm(points[:, None] - means, axis=2).argmin(axis=1)
    assert (nearest == classes).all()
    assert np.array_equal(points, project(vectors, method))


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("shape", [(1, 5), (2, 5), (3, 1), (4, 1), (9, 1), (7, 2)])
def test_few_vectors_of_few_numbers_are_points_too(method, shape):
    points = project(np.random.default_rng(0).normal(size=shape), method)
    assert points.shape == (shape[0], 2)
    assert np.isfinite(points).all()
    np.testing.assert_allclose(points.mean(axis=0), 0, atol=1e-4)


def test_vectors_that_are_all_the_same_are_one_point():
    assert not project(np.ones((20, 3), dtype=np.float32), "tsne").any()


def test_options_reach_the_method():
    vectors, _ = clouds()
    assert not np.array_equal(project(vectors, "tsne"), project(vectors, "tsne", {"perplexity": 5}))


def test_a_direction_that_is_missing_is_0():
    assert principal(np.array([[1.0], [-1.0]]), 2).tolist() == [[1.0, 0.0], [-1.0, 0.0]]
