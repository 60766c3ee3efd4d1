"""Projections of vectors onto a plane: PCA, t-SNE and UMAP."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

METHODS = ("pca", "tsne", "umap")

_FEWEST = 4  # fewer points have no neighbourhoods to keep
_DIMENSIONS = 50  # of the input of t-SNE at most; the others are mostly noise, and take time


def project(vectors: np.ndarray, method: str, options: Mapping[str, Any] | None = None) -> np.ndarray:
    """Return vectors as points of a plane, the same each time.

    - ``pca``: onto the two directions of the largest variance; exact and linear, so that distances mean something.
    - ``tsne``: scikit-learn's t-SNE, started from PCA; only neighbourhoods mean something, not sizes and gaps.
    - ``umap``: UMAP of the package umap-learn; reads like t-SNE.

    Fewer than 4 vectors, and vectors that are all the same, are projected by ``pca``.

    Args:
        vectors: [n, D], finite, at least one.
        method: one of ``METHODS``.
        options: of ``sklearn.manifold.TSNE`` or ``umap.UMAP``; they replace those chosen here.

    Returns:
        [n, 2], float64, each axis centred at 0.
    """
    vectors = vectors.astype(np.float64)
    centred = vectors - vectors.mean(axis=0)
    if method == "pca" or len(vectors) < _FEWEST or not np.ptp(vectors, axis=0).any():
        return principal(centred, 2)
    return _centre(_tsne(centred, options or {}) if method == "tsne" else _umap(centred, options or {}))


def principal(centred: np.ndarray, count: int) -> np.ndarray:
    """Return coordinates [n, count] along the directions of the largest variance; 0 where there are fewer."""
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:count]
    # The sign of a direction is arbitrary: its largest component becomes positive, so that epochs can be compared.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)
    found = centred @ (directions * signs[:, None]).T
    return np.pad(found, ((0, 0), (0, count - found.shape[1])))


def _tsne(centred: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    from sklearn.manifold import TSNE

    few = principal(centred, min(_DIMENSIONS, centred.shape[1]))
    # One thread and a fixed seed give the same points each time; the perplexity must be less than the number of points.
    chosen: dict[str, Any] = {"init": "pca", "random_state": 0, "n_jobs": 1, "max_iter": 500}
    chosen |= {"perplexity": min(30.0, (len(few) - 1) / 3), **options}
    if few.shape[1] < 2:  # PCA has no second direction to start from
        chosen = {"init": "random", **{name: value for name, value in chosen.items() if name != "init"}}
    points: np.ndarray = TSNE(n_components=2, **chosen).fit_transform(few)
    return points.astype(np.float64)


def _umap(centred: np.ndarray, options: Mapping[str, Any]) -> np.ndarray:
    from umap import UMAP

    chosen = {"random_state": 0, "n_jobs": 1, "n_neighbors": min(15, len(centred) - 1), **options}
    with warnings.catch_warnings(action="ignore"):  # its warnings about few points do not help who sees the picture
        points: np.ndarray = UMAP(n_components=2, **chosen).fit_transform(centred)
    return points.astype(np.float64)


def _centre(points: np.ndarray) -> np.ndarray:
    moved: np.ndarray = points - points.mean(axis=0)
    return moved
