"""Iterative stratification, against the algorithm of the paper written down step by step."""

import numpy as np
import pytest
from scipy import sparse

from assay.runner.data.selection.draw import assign_iteratively


def reference(targets, shares):
    """Algorithm 1 of K. Sechidis et al., 2011, with sets; what it leaves to chance is decided by the lowest number."""
    left = set(range(len(targets)))
    room = [len(targets) * share for share in shares]
    lacks = [[sum(row[label] for row in targets) * share for label in range(len(targets[0]))] for share in shares]
    parts = {}
    while left:
        remaining = [[one for one in sorted(left) if targets[one][label]] for label in range(len(targets[0]))]
        label = min((one for one in range(len(remaining)) if remaining[one]), key=lambda one: len(remaining[one]))
        for one in remaining[label]:
            best = max(lacks[part][label] for part in range(len(shares)))
            ties = [part for part in range(len(shares)) if lacks[part][label] == best]
            largest = max(room[part] for part in ties)
            part = next(part for part in ties if room[part] == largest)
            parts[one] = part
            left.remove(one)
            room[part] -= 1
            for other, holds in enumerate(targets[one]):
                lacks[part][other] -= holds
    return [parts[one] for one in range(len(targets))]


@pytest.mark.parametrize("shares", [[0.25, 0.75], [0.5, 0.5], [0.25] * 4], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_every_item_goes_where_the_paper_puts_it(seed, shares):
    targets = (np.random.default_rng(seed).random((120, 6)) < [0.6, 0.4, 0.2, 0.1, 0.06, 0.03]).astype(np.int64)
    targets[targets.sum(axis=1) == 0, 0] = 1  # the paper's items all have a label
    found = assign_iteratively(sparse.csr_array(targets), np.ones(120, dtype=np.int64), np.array(shares))
    assert found.tolist() == reference(targets.tolist(), shares)


def test_groups_of_many_are_given_out_first_so_that_small_ones_even_them_out():
    sizes = np.array([1, 1, 1, 1, 6, 6, 2, 2])
    found = assign_iteratively(sparse.csr_array(sizes[:, None]), sizes, np.array([0.5, 0.5]))
    assert [sizes[found == part].sum() for part in (0, 1)] == [10, 10]
