"""Recall@k: whether the nearest neighbours of a sample include one of its own class."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

DISTANCES = ("cosine", "euclidean")
# A product of matrices may round equal rows differently; distances below are computed pair by pair.
_ROUNDING = {"cosine": 1e-12, "euclidean": 0.0}
_BLOCK = 1 << 22  # pairs compared at a time: 32 MiB of float64


def recall_at_k(vectors: Tensor, labels: Tensor, k: Sequence[int], distance: str = "cosine") -> list[float]:
    """Return the share of samples that have one of their own class among their ``k`` nearest others.

    The measure of H. Oh Song et al., "Deep Metric Learning via Lifted Structured Feature Embedding", 2016, section 5:
    each sample is a query once, and all others are searched. A query that is alone in its class counts nowhere, and is
    searched all the same. Where others are equally near, those of another class come first, so that vectors that are
    all the same find nothing. NaN and Inf are farther than anything else.

    Args:
        vectors: [N, D], floating point.
        labels: [N], class numbers.
        k: how many neighbours, at least 1 each.
        distance: one of ``DISTANCES``.

    Returns:
        One value per k, 0 to 1; NaN where no two samples share a class.

    Example:
        >>> vectors = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.8, 0.3]])
        >>> recall_at_k(vectors, torch.tensor([0, 0, 1, 1]), k=[1, 3])
        [0.75, 1.0]
    """
    before = nearest_of_class(vectors, labels, distance)
    before = before[before >= 0]
    return [float((before < one).double().mean()) for one in k]


def nearest_of_class(vectors: Tensor, labels: Tensor, distance: str = "cosine") -> Tensor:
    """Return how many samples of other classes are at least as near as the nearest one of the own class.

    Time grows with the square of N, memory does not. Computed in float64.

    Args:
        vectors: [N, D], floating point.
        labels: [N], class numbers.
        distance: one of ``DISTANCES``.

    Returns:
        [N], int64; -1 of a sample that is alone in its class.
    """
    vectors = vectors.double()
    if distance == "cosine":
        vectors = F.normalize(vectors, dim=1)
    # A block of rows at a time, as all pairs at once would take N * N * 8 bytes.
    rows = max(1, _BLOCK // max(1, len(vectors)))
    found = [_search_block(vectors, labels, first, first + rows, distance) for first in range(0, len(vectors), rows)]
    return torch.cat(found) if found else labels.new_zeros(0, dtype=torch.int64)


def _search_block(vectors: Tensor, labels: Tensor, first: int, last: int, distance: str) -> Tensor:
    # NaN and infinite vectors become farther than all others.
    nearness = _nearness(vectors[first:last], vectors, distance).nan_to_num(-torch.inf, -torch.inf, -torch.inf)
    is_own = labels[first:last, None] == labels[None]
    others = is_own.clone()
    others.diagonal(first).fill_(False)
    nearest = nearness.masked_fill(~others, -torch.inf).amax(dim=1, keepdim=True) - _ROUNDING[distance]
    before = (~is_own & (nearness >= nearest)).sum(dim=1)
    return before.masked_fill(~others.any(dim=1), -1)


def _nearness(queries: Tensor, vectors: Tensor, distance: str) -> Tensor:
    if distance == "cosine":
        return queries @ vectors.T
    return -torch.cdist(queries, vectors, compute_mode="donot_use_mm_for_euclid_dist")
