"""Which samples of a batch hold NaN or infinity."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ....support.host_copy import HostCopy

_MOST = 8  # names


class BrokenInputs:
    """Finds samples that are not all numbers by the sums of their values, without making a step wait for the device.

    Args:
        batch: as the loader gives it: by key, or a sequence of parts.
        id_key: of the samples' ids in a batch by key.
    """

    def __init__(self, batch: Any, id_key: str | int):
        self._sums = {key: HostCopy(sums, own=True) for key, part in _parts(batch) for sums in _sums(part)}
        ids = batch.get(id_key) if isinstance(batch, Mapping) else None
        self._ids = ids.tolist() if isinstance(ids, Tensor) and not ids.is_cuda else ids

    def read(self) -> dict[str, tuple[str, ...]]:
        """Return up to eight names of samples that are not finite, by the key of the part; waits for the device."""
        # By NumPy: what torch computes here would count among what it computes in a step.
        found = {key: np.flatnonzero(~np.isfinite(sums.read().numpy())) for key, sums in self._sums.items()}
        return {key: tuple(map(self._name, rows[:_MOST].tolist())) for key, rows in found.items() if len(rows)}

    def _name(self, row: int) -> str:
        named = isinstance(self._ids, Sequence) and row < len(self._ids)
        return str(self._ids[row]) if named and self._ids is not None else f"sample {row} of the batch"


def _parts(batch: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(batch, Mapping):
        yield from ((str(key), part) for key, part in batch.items())
    elif isinstance(batch, list | tuple):
        yield from ((str(place), part) for place, part in enumerate(batch))


def _sums(part: Any) -> Iterator[Tensor]:
    """Yield the sum of each sample of a part of a batch, [N], where it is of numbers with a point."""
    if isinstance(part, Tensor):
        if _is_summed(part) and part.ndim:
            with torch.no_grad():
                yield part.detach().reshape(len(part), -1).sum(1, dtype=torch.float32)
    elif isinstance(part, list | tuple) and part and all(isinstance(one, Tensor) and _is_summed(one) for one in part):
        with torch.no_grad():
            yield torch.stack([one.detach().sum(dtype=torch.float32) for one in part])


def _is_summed(part: Tensor) -> bool:
    return part.is_floating_point() and part.layout is torch.strided and part.numel() > 0
