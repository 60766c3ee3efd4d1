"""What a split gives out as a whole: items, or groups of items."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from assay.callbacks.keys import SAMPLE_ID_KEY

from ..readers.item_list import ItemList
from .draw import draw_order
from .label_counts import label_counts


@dataclass(frozen=True)
class Units:
    """Items or groups, in a random order.

    Attributes:
        of_items: the unit of each item, [N].
        counts: in how many items of each unit each class occurs, [U, C].
        sizes: items of each unit, [U].
    """

    of_items: np.ndarray
    counts: sparse.csr_array
    sizes: np.ndarray

    @classmethod
    def make(cls, items: ItemList, groups: Sequence[str] | None, seed: int) -> "Units":
        """Return the groups of items, or the items themselves, in an order that follows from seed and names."""
        named = list(items.column(SAMPLE_ID_KEY)) if groups is None else list(groups)
        names = list(dict.fromkeys(named))
        place = {names[at]: rank for rank, at in enumerate(draw_order(names, seed).tolist())}
        of_items = np.array([place[name] for name in named], dtype=np.int64)
        ones = np.ones(len(named), dtype=np.int64)
        joined = sparse.csr_array((ones, (of_items, np.arange(len(named)))), shape=(len(names), len(named)))
        counts = sparse.csr_array(joined @ label_counts(items))
        counts.sort_indices()
        return cls(of_items, counts, np.bincount(of_items, minlength=len(names)))

    def with_each_class(self, valid: np.ndarray) -> np.ndarray:
        """Return which units to validate on, [U], with a unit moved for each class that a part lacks for no need.

        The smallest one is moved, as long as the other part keeps another unit of each of its classes.
        """
        valid, of_class = valid.copy(), self.counts.tocsc()
        units_of = np.asarray((self.counts > 0).sum(axis=0)).reshape(-1)
        for part in (True, False):
            for label in np.flatnonzero((units_of > 1) & (self.in_part(valid == part) == 0)).tolist():
                self._move_one(of_class.indices[of_class.indptr[label] : of_class.indptr[label + 1]], valid, part)
        return valid

    def _move_one(self, units: np.ndarray, valid: np.ndarray, part: bool) -> None:
        if (valid[units] == part).any():
            return  # one came along with another class
        for unit in units[np.lexsort((units, self.sizes[units]))].tolist():
            labels = self.counts.indices[self.counts.indptr[unit] : self.counts.indptr[unit + 1]]
            if (self.in_part(valid != part)[labels] > 1).all():
                valid[unit] = part
                return

    def in_part(self, chosen: np.ndarray) -> np.ndarray:
        """Return how many of the chosen units hold each class, [C]."""
        return np.asarray((self.counts[np.flatnonzero(chosen)] > 0).sum(axis=0)).reshape(-1)
