"""How many samples a batch holds: as many as were asked for, unless it shows that others came."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


class SizedBatch(dict[str, Any]):
    """A batch that knows its number of samples, of which some that were asked for may be left out.

    Args:
        parts: of the batch.
        samples: how many there are.
    """

    def __init__(self, parts: Mapping[str, Any], samples: int | None = None):
        super().__init__(parts)
        self.samples = samples


def batch_size(batch: Any, asked: int) -> int:
    """Return the number of samples of a batch.

    It is the number of indices that the loader was asked for: parts of any form may stand beside the samples, and so
    none is believed alone. But where no part is that long, and all tensors share another length, a ``collate_fn`` has
    left samples out, or made several of each.

    Args:
        batch: as the loader gave it.
        asked: the number of indices.
    """
    if isinstance(batch, SizedBatch) and batch.samples is not None:
        return batch.samples
    parts = list(batch.values()) if isinstance(batch, Mapping) else []
    rows = {len(part) for part in parts if isinstance(part, Tensor) and part.ndim}
    lists = {len(part) for part in parts if isinstance(part, list | tuple)}
    return rows.pop() if len(rows) == 1 and asked not in rows | lists else asked
