"""Batches that wait for others of their optimizer step."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from .bad_images import StandIn, collate
from .sharding import Turn

_MAKES_NEW = (default_collate, collate)


def kept(batch: Any, loader: DataLoader[Any]) -> Any:
    """Return a batch that stays as it is while the loader makes the next one.

    A ``collate_fn`` of one's own may return views of a buffer that it fills again. Workers send what they make, and
    pinned batches are copies.
    """
    if loader.num_workers or loader.pin_memory or loader.collate_fn in _MAKES_NEW:
        return batch
    return _cloned(batch)


def counts(batch: Any, turn: Turn) -> bool:
    """Whether anything of a batch counts: it does not only stand in for one."""
    return bool(turn.samples) and isinstance(batch, Mapping) and not isinstance(batch, StandIn)


def _cloned(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part.clone()
    if isinstance(part, dict):
        clone = part.copy() if type(part) is dict else part
        clone.update({name: _cloned(value) for name, value in part.items()})
        return clone
    return [_cloned(value) for value in part] if isinstance(part, list) else part
