"""The chance of what a loader fetches: whatever an item draws from follows from (seed, epoch, index)."""

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

from assay.callbacks.rng import RngState

from .chance_sources import Seed
from .item_errors import named_in_errors
from .seeding import mix

_ITEM, _BATCH = 2, 3  # keep apart what is drawn for an item and for a batch, and both from what the model draws
_CPU = torch.device("cpu")


@dataclass
class _Moment:
    """A fetch that is under way.

    Attributes:
        seed: of the run.
        epoch: that the fetch belongs to.
        seeds: what seeds further sources of chance, those of the data set, by number.
        part: which parts of ``ConcatDataset`` the item lies in, from the outermost to the innermost.
    """

    seed: int
    epoch: int
    seeds: Mapping[int, Seed] = field(default_factory=dict)
    part: tuple[int, ...] = ()


@dataclass
class _Process:
    """This process: what it fetches at the moment, if it does."""

    moment: _Moment | None = None


_here = _Process()  # not by thread: a data set may read its items in several


@contextmanager
def fetching(seed: int, epoch: int, seeds: Mapping[int, Seed] | None = None) -> Iterator[None]:
    """Make ``seed`` and ``epoch`` those of the items that are read within.

    Each item finds the generators of Python, NumPy and torch, and what ``seeds`` seed, seeded for it.

    In the main process the global ones are put back: the model draws from them too. In a loader's worker the next fetch
    seeds them anyway. Generators of a GPU are not touched.
    """
    before, _here.moment = _here.moment, _Moment(seed, epoch, seeds or {})
    state = RngState.take(_CPU) if get_worker_info() is None else None
    try:
        yield
    finally:
        _here.moment = before
        if state is not None:
            state.restore()


def current_epoch() -> int | None:
    """Return the epoch that is being fetched for, counted from 1; None where no runner fetches.

    A data set may ask for it in ``__getitem__``, however deep it stands in others and in whichever process.
    """
    return None if _here.moment is None else _here.moment.epoch


def read_item(items: Any, index: Any) -> Any:
    """Return ``items[index]``; within a fetch, with the generators seeded for it."""
    moment = _here.moment
    if moment is not None:
        _seed(moment, as_number(index), _ITEM)
        moment.part = _part(items, index)
    with named_in_errors(items, [index]):
        return items[index]


def seed_batch(indices: Sequence[Any]) -> None:
    """Seed the generators, within a fetch, for what is drawn for a batch as a whole."""
    moment = _here.moment
    if moment is not None:
        _seed(moment, indices, _BATCH)
        moment.part = ()


def seed_here(seed: int) -> int:
    """Return the seed that a data set goes by in the place where its item is read: its own, or one of the part's.

    In a ``ConcatDataset`` the items of one number in two parts of one seed draw differently. The first part draws as it
    does alone.
    """
    part = () if _here.moment is None else _here.moment.part
    return mix(seed, *part) if any(part) else seed


def as_number(index: Any) -> int:
    """Return a non-negative number for an index; a number stands for itself."""
    try:
        number = operator.index(index)
    except TypeError:
        number = -1
    return number if number >= 0 else zlib.crc32(repr(index).encode())


def _part(items: Any, index: Any) -> tuple[int, ...]:
    if isinstance(items, Subset):
        return _part(items.dataset, items.indices[index])
    if not isinstance(items, ConcatDataset) or index < 0:
        return ()
    part = bisect_right(items.cumulative_sizes, index)
    before = items.cumulative_sizes[part - 1] if part else 0
    return (part, *_part(items.datasets[part], index - before)) if part < len(items.datasets) else ()


def _seed(moment: _Moment, *what: Any) -> None:
    # Not by mix, which takes as long as all that follows.
    text = repr((moment.seed, moment.epoch, *what))
    seed = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed takes all devices, at 200 times the cost
    for place, seed_source in moment.seeds.items():
        seed_source(seed ^ place)  # two that began alike would draw alike
