"""Draw a share or a fold of items so that every part has its share of each class."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from scipy import sparse

_DIGITS = 9  # to which shares of a count are rounded: 3 * 0.1 is not quite 0.3


def draw_order(names: Sequence[str], seed: int) -> np.ndarray:
    """Return a random order of names that follows from the seed and the names alone, not from their order."""
    drawn = np.array([_drawn(name, seed) for name in names], dtype=np.uint64)
    return np.argsort(drawn, kind="stable")


def draw_share(counts: sparse.csr_array, sizes: np.ndarray, share: float) -> np.ndarray:
    """Return which units to validate on, [U] bool.

    Args:
        counts: how often each class occurs in each unit, an item or a group of items, [U, C]. The units are in a random
            order.
        sizes: items of each unit, [U].
        share: of the items to validate on.
    """
    if not _is_plain(counts, sizes):
        return np.asarray(assign_iteratively(counts, sizes, np.array([share, 1 - share])) == 0)
    valid = np.zeros(len(sizes), dtype=bool)
    # Every 1/share-th unit, class by class: of each class and of all, the share is met up to rounding.
    steps = np.floor(np.round(np.arange(len(sizes) + 1) * share, _DIGITS) + 0.5)
    valid[_by_class(counts)] = np.diff(steps) > 0
    return valid


def draw_folds(counts: sparse.csr_array, sizes: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold of each unit, [U] from 0 to ``folds`` - 1; see ``draw_share``."""
    if not _is_plain(counts, sizes):
        return assign_iteratively(counts, sizes, np.full(folds, 1 / folds))
    fold = np.zeros(len(sizes), dtype=np.int64)
    fold[_by_class(counts)] = np.arange(len(sizes)) % folds
    return fold


def assign_iteratively(counts: sparse.csr_array, sizes: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the part of each unit, [U], by iterative stratification.

    The rarest class is given out first. A unit of it goes to the part that lacks most of this class, and among equals
    most items. Units of several items are given out from the largest to the smallest.

    Source: K. Sechidis, G. Tsoumakas and I. Vlahavas, "On the Stratification of Multi-Label Data", ECML PKDD 2011,
    algorithm 1; here a unit may count several times.

    Args:
        counts: see ``draw_share``.
        sizes: see ``draw_share``.
        shares: of each part, [P].
    """
    # Plain lists: a million units take seconds, with arrays of two numbers minutes.
    lacks = (shares[:, None] * np.asarray(counts.sum(axis=0)).reshape(1, -1)).tolist()
    room = (shares * sizes.sum()).tolist()
    left = np.asarray((counts > 0).sum(axis=0)).reshape(-1)
    of_class, assigned = counts.tocsc(), np.full(len(sizes), -1)

    def give(unit: int, part: int) -> None:
        assigned[unit] = part
        room[part] -= sizes[unit]
        at = slice(counts.indptr[unit], counts.indptr[unit + 1])
        for label, count in zip(counts.indices[at].tolist(), counts.data[at].tolist(), strict=True):
            lacks[part][label] -= count
            left[label] -= 1

    while left.any():
        label = int(np.where(left > 0, left, left.max() + 1).argmin())
        at = slice(of_class.indptr[label], of_class.indptr[label + 1])
        units, often = of_class.indices[at], of_class.data[at]
        largest_first = units[np.lexsort((units, -sizes[units], -often))]
        for unit in largest_first[assigned[largest_first] < 0].tolist():
            give(unit, max(range(len(shares)), key=lambda part: (lacks[part][label], room[part])))
    without = np.flatnonzero(assigned < 0)
    for unit in without[np.argsort(-sizes[without], kind="stable")].tolist():
        give(unit, max(range(len(shares)), key=room.__getitem__))
    return assigned


def _drawn(name: str, seed: int) -> int:
    text = f"{seed}\0{name}".encode(errors="surrogateescape")  # names of files need not be of UTF-8
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def _is_plain(counts: sparse.csr_array, sizes: np.ndarray) -> bool:
    """Whether each unit is one item of one class."""
    return bool((sizes == 1).all() and (np.diff(counts.indptr) == 1).all())


def _by_class(counts: sparse.csr_array) -> np.ndarray:
    return np.argsort(counts.indices, kind="stable")
