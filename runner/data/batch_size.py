"""The number of samples in a batch: what the loader was asked for, unless the batch itself shows another number."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from assay.callbacks.keys import IMAGE_KEY, SAMPLE_ID_KEY, TARGET_KEY


class SizedBatch(dict[str, Any]):
    """A batch that knows its number of samples, because some that were asked for may have been left out.

    Args:
        parts: of the batch.
        samples: how many there are.
    """

    def __init__(self, parts: Mapping[str, Any], samples: int | None = None):
        super().__init__(parts)
        self.samples = samples


def batch_size(batch: Any, asked: int, keys: Iterable[str] = (IMAGE_KEY, TARGET_KEY, SAMPLE_ID_KEY)) -> int:
    """Return the number of samples of a batch.

    It is the number of indices that the loader was asked for, unless a ``collate_fn`` has left samples out or made
    several of each. Then all parts that are known to be of samples share another length; if there are none of these,
    no part is as long as was asked for, and all tensors share another length.

    Args:
        batch: as the loader gave it.
        asked: the number of indices.
        keys: of the parts that are known to be of samples; they may be missing or of another form.
    """
    if isinstance(batch, SizedBatch) and batch.samples is not None:
        return batch.samples
    parts = batch if isinstance(batch, Mapping) else {}
    known = [(part, length) for key in keys if key in parts for part, length in _lengths(parts[key])]
    # A single list may be one of views, or of the parts of a tuple: its length says nothing of samples.
    if len(known) > 1 or any(isinstance(part, Tensor) for part, _ in known):
        lengths = {length for _, length in known}
        return lengths.pop() if len(lengths) == 1 else asked
    rows = {len(part) for part in parts.values() if isinstance(part, Tensor) and part.ndim}
    lists = {len(part) for part in parts.values() if isinstance(part, list | tuple)}
    return rows.pop() if len(rows) == 1 and asked not in rows | lists else asked


def keys_in(names: Any) -> list[str]:
    """Return all keys in a key, a list of keys, or a mapping of such."""
    if isinstance(names, str):
        return [names]
    return [key for inner in (names.values() if isinstance(names, Mapping) else names) for key in keys_in(inner)]


def _lengths(part: Any) -> list[tuple[Any, int]]:
    if isinstance(part, Mapping):
        return [pair for inner in part.values() for pair in _lengths(inner)]
    if isinstance(part, list | tuple) or (isinstance(part, Tensor | np.ndarray) and part.ndim):
        return [(part, len(part))]
    return []
