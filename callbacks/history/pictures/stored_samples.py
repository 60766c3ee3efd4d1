"""What data sets tell of their samples as they are stored, before anything is drawn by chance.

A data set joins in by one method, which ``Augmented`` has and a data set of a user's own may have::

    def stored_sample(self, index):
        return {"sample_id": self.ids[index], "image": read(self.paths[index])}

It is called in a thread beside the loop, for some indices from 0 to ``len(data_set) - 1``, so that it must draw no
random numbers and change nothing. ``image`` is an array [H, W] or [H, W, C], uint8, uint16, or floats of 0 to 1.
The method returns None for a sample that it cannot tell. ``stored_ids()`` is optional: it returns the ids of all
samples, without reading an image.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch.utils.data import ConcatDataset, Subset

from ...keys import SAMPLE_ID_KEY


class StoredSamples:
    """Reads samples of a data set as they are stored.

    Args:
        count: how many there are.
        read: returns one by index; see the module.
        ids: returns the ids of all; None: they are known by reading alone.
    """

    def __init__(
        self, count: int, read: Callable[[int], Mapping[str, Any] | None], ids: Callable[[], Sequence[Any] | None]
    ):
        self.count, self.read, self._ids = count, read, ids
        self._places: dict[str, int] | None = None

    def place(self, name: str) -> int | None:
        """Return the index of the sample of an id; None where there is none."""
        if self._places is None:
            names = self._ids()
            if names is None:
                names = [self._read_id(index) for index in range(self.count)]
            self._places = {}
            for index, one in enumerate(names):
                if one is not None:
                    self._places.setdefault(str(one), index)
        return self._places.get(name)

    def _read_id(self, index: int) -> Any:
        try:
            return (self.read(index) or {}).get(SAMPLE_ID_KEY)
        except Exception:  # noqa: BLE001 - one that cannot be read has no picture, and the others have theirs
            return None

    def image(self, name: str) -> np.ndarray | None:
        """Return the image of the sample of an id, [H, W, ...]; None where it cannot be told."""
        index = self.place(name)
        sample = None if index is None else self.read(index)
        image = None if sample is None else sample.get("image")
        return image if isinstance(image, np.ndarray) and image.ndim in (2, 3) and image.size else None

    @classmethod
    def of(cls, dataset: Any) -> "StoredSamples | None":
        """Return those of a data set, also within ``Subset`` and ``ConcatDataset``; None where it does not tell."""
        if type(dataset) is Subset:
            return _of_subset(dataset)
        if type(dataset) is ConcatDataset:
            return _of_several(dataset)
        if getattr(dataset, "hands_on_items", False):  # it leaves out what cannot be read, and changes nothing
            return cls.of(dataset.items)
        read, ids = getattr(dataset, "stored_sample", None), getattr(dataset, "stored_ids", None)
        if not callable(read):
            return None
        if not len(dataset) or not _tells(read):
            return None
        return cls(len(dataset), read, ids if callable(ids) else lambda: None)

    def ids(self) -> Sequence[Any] | None:
        """Return the ids of all; None where they are known by reading alone."""
        return self._ids()


def _tells(read: Callable[[int], Any]) -> bool:
    try:
        return read(0) is not None
    except Exception:  # noqa: BLE001 - one sample that cannot be read says nothing of the others
        return True


def _of_subset(dataset: Subset[Any]) -> StoredSamples | None:
    inner, indices = StoredSamples.of(dataset.dataset), dataset.indices
    if inner is None:
        return None

    def ids() -> Sequence[Any] | None:
        names = inner.ids()
        return None if names is None else [names[index] for index in indices]

    return StoredSamples(len(indices), lambda index: inner.read(indices[index]), ids)


def _of_several(dataset: ConcatDataset[Any]) -> StoredSamples | None:
    parts = [StoredSamples.of(part) for part in dataset.datasets]
    told = [part for part in parts if part is not None]
    if len(told) < len(parts):
        return None
    ends = dataset.cumulative_sizes

    def read(index: int) -> Mapping[str, Any] | None:
        part = bisect_right(ends, index)
        return told[part].read(index - (ends[part - 1] if part else 0))

    def ids() -> Sequence[Any] | None:
        names = [part.ids() for part in told]
        return None if any(of is None for of in names) else [name for of in names if of is not None for name in of]

    return StoredSamples(ends[-1] if ends else 0, read, ids)
