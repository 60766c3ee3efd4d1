"""Seed the generators for each item that a loader reads, from (seed, epoch, index)."""

import operator
import random
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from torch.utils.data import ConcatDataset, Subset, get_worker_info

from assay.callbacks.support.rng import RngState

from .chance_sources import Seed
from .item_errors import named_in_errors
from .seeding import mix

_ITEM, _BATCH = 2, 3  # keep the draws for items and batches apart from each other and from the model's
_CPU = torch.device("cpu")


@dataclass
class _Fetch:
    """A fetch that is under way.

    Attributes:
        seed: of the run.
        epoch: that the fetch belongs to.
        seeds: seed the data set's own random sources, by number.
        part: the parts of ``ConcatDataset`` that the item lies in, from the outermost to the innermost.
    """

    seed: int
    epoch: int
    seeds: Mapping[int, Seed] = field(default_factory=dict)
    part: tuple[int, ...] = ()


@dataclass
class _Process:
    """What this process is fetching; None while it fetches nothing."""

    fetch: _Fetch | None = None


_current = _Process()  # per process, not per thread: a data set may read its items in several threads


@contextmanager
def fetching(seed: int, epoch: int, seeds: Mapping[int, Seed] | None = None) -> Iterator[None]:
    """Read items for ``seed`` and ``epoch`` within the block.

    Before each item, the generators of Python, NumPy and torch, and those that ``seeds`` reach, are seeded for it. In
    the main process the global ones are restored afterwards. Generators of a GPU are not touched.
    """
    before, _current.fetch = _current.fetch, _Fetch(seed, epoch, seeds or {})
    # The model draws from the global generators too. In a worker nothing does, and the next fetch seeds them again.
    state = RngState.take(_CPU) if get_worker_info() is None else None
    try:
        yield
    finally:
        _current.fetch = before
        if state is not None:
            state.restore()


def current_epoch() -> int | None:
    """Return the epoch whose items are being read, counted from 1; None where no runner reads.

    A data set may call it in ``__getitem__``, however deeply it is nested in others, in any process.
    """
    return None if _current.fetch is None else _current.fetch.epoch


def read_item(items: Any, index: Any) -> Any:
    """Return ``items[index]``; within a fetch, seed the generators for it first."""
    fetch = _current.fetch
    if fetch is not None:
        _seed_generators(fetch, as_number(index), _ITEM)
        fetch.part = _parts_of(items, index)
    with named_in_errors(items, [index]):
        return items[index]


def seed_batch(indices: Sequence[Any]) -> None:
    """Seed the generators, within a fetch, for the draws for a batch as a whole."""
    fetch = _current.fetch
    if fetch is not None:
        _seed_generators(fetch, indices, _BATCH)
        fetch.part = ()


def seed_of_part(seed: int) -> int:
    """Return the seed of a data set for the item that is being read, which depends on the part of a ``ConcatDataset``.

    Items with the same number in two parts with the same seed draw differently. The first part draws as it does alone.
    """
    part = () if _current.fetch is None else _current.fetch.part
    return mix(seed, *part) if any(part) else seed


def as_number(index: Any) -> int:
    """Return a non-negative number for an index of any type; a non-negative number is kept."""
    try:
        number = operator.index(index)
    except TypeError:
        number = -1
    return number if number >= 0 else zlib.crc32(repr(index).encode())  # hash() differs between processes


def _parts_of(items: Any, index: Any) -> tuple[int, ...]:
    if isinstance(items, Subset):
        return _parts_of(items.dataset, items.indices[index])
    if not isinstance(items, ConcatDataset) or index < 0:
        return ()
    part = bisect_right(items.cumulative_sizes, index)
    before = items.cumulative_sizes[part - 1] if part else 0
    return (part, *_parts_of(items.datasets[part], index - before)) if part < len(items.datasets) else ()


def _seed_generators(fetch: _Fetch, *what: Any) -> None:
    # Not with mix, which takes as long as everything below.
    text = repr((fetch.seed, fetch.epoch, *what))
    seed = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds all devices, at 200 times the cost
    for place, seed_source in fetch.seeds.items():
        seed_source(seed ^ place)  # with one seed, two sources of a kind would draw alike
