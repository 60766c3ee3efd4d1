"""Keep batches while others of their optimizer step are read."""

from collections.abc import Mapping
from typing import Any

from torch.utils.data import DataLoader, default_collate

from assay.callbacks.support.host_copy import kept_from_loader

from ...data.bad_images import StandIn, collate
from ...data.sharding import RankBatch

_MAKES_NEW = (default_collate, collate)


def kept(batch: Any, loader: DataLoader[Any]) -> Any:
    """Return a batch that stays as it is while the loader makes the next one."""
    # A user's ``collate_fn`` may return views of a buffer that it fills again, and so may a loader of the user's own,
    # which passes batches on. Workers send what they make, and pinned batches are copies.
    is_torchs = type(loader).__iter__ is DataLoader.__iter__
    if is_torchs and (loader.num_workers or loader.pin_memory or loader.collate_fn in _MAKES_NEW):
        return batch
    copied = kept_from_loader(batch, batch)
    if not isinstance(batch, dict) or type(batch) is dict:
        return copied
    batch.update(copied)  # of a class of assay's, which knows more of itself than its parts
    return batch


def counts(batch: Any, rank_batch: RankBatch) -> bool:
    """Whether anything of a batch counts: it does not only stand in for one."""
    return bool(rank_batch.samples) and isinstance(batch, Mapping) and not isinstance(batch, StandIn)
