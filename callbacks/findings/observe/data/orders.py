"""Draw the order of two epochs from a loader's own samplers, in a process where they may be used up."""

import operator
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from .data_sets import length_of, set_epoch_inside

MOST = 100_000
_SECONDS = 0.25  # for an order; more than that takes a sampler of a user's that computes
_FIRST = 3  # batches
_LARGEST_CHUNK = 1024  # of what a sampler gives between two looks at the clock, beginning with 1
_DRAWING = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)
# What these take is all of the data set, whatever part of it an epoch draws.
_OF_ALL = (RandomSampler, SequentialSampler)


@dataclass(frozen=True)
class Orders:
    """The orders of a loader.

    Attributes:
        order: of the first epoch; see ``LoaderProbe``.
        later: of the second.
        epoch_length: samples of an epoch, before the last batch is left out.
        shuffles: see ``LoaderProbe``.
        batches: indices of the first batches.
        candidates: indices that the loader may give, sorted.
        drawable: how many these are; 0 where the sampler may give others as well.
    """

    order: tuple[int, ...] = ()
    later: tuple[int, ...] = ()
    epoch_length: int = 0
    shuffles: bool | None = None
    batches: tuple[tuple[int, ...], ...] = ()
    candidates: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    drawable: int = 0


def draw_orders(loader: Any, length: int) -> Orders:
    """Return the orders of a loader over a data set with a length."""
    batch_sampler, sampler = loader.batch_sampler, loader.sampler
    plain = type(batch_sampler) is BatchSampler
    source = batch_sampler.sampler if plain else batch_sampler
    drawn = []
    for epoch in (1, 2):
        for one in (batch_sampler, sampler):
            set_epoch_inside(one, epoch)
        drawn.append(_drawn(source))
    (order, batches), (later, _) = drawn
    if plain:
        size = batch_sampler.batch_size
        batches = [order[first : first + size] for first in range(0, min(len(order), _FIRST * size), size)]
        batches = [batch for batch in batches if len(batch) == size or not batch_sampler.drop_last]
    whole = len(order) < MOST
    epoch_length = len(order) if whole and order else (length_of(source) or 0) if plain else 0
    candidates, known = _candidates(source, length, order, later)
    known = known or (len(order) == epoch_length > 0 and {*order} == {*later})
    return Orders(
        tuple(order), tuple(later), epoch_length, _shuffles(source, order, later), tuple(map(tuple, batches)),
        candidates, len(candidates) if known else 0,
    )  # fmt: skip


def _drawn(source: Any) -> tuple[list[int], list[list[int]]]:
    """Return the order that a sampler of indices or of batches gives, and its first batches."""
    order: list[int] = []
    batches: list[list[int]] = []
    until = time.monotonic() + _SECONDS
    try:
        drawing, size = iter(source), 1
        while len(order) < MOST and time.monotonic() < until and (chunk := list(islice(drawing, size))):
            size = min(2 * size, _LARGEST_CHUNK)
            if isinstance(chunk[0], Iterable):
                batches += [[operator.index(index) for index in batch] for batch in chunk]
                order += chain.from_iterable(batches[-len(chunk) :])
            else:
                order += map(operator.index, chunk)
    except Exception:  # noqa: BLE001 - a sampler of the user's may raise anything, and give keys of any kind
        return [], []
    return order[:MOST], batches[:_FIRST]


def _shuffles(source: Any, order: list[int], later: list[int]) -> bool | None:
    sampler = getattr(source, "sampler", source)
    if isinstance(sampler, _DRAWING):
        return True
    if type(sampler) is SequentialSampler:
        return False
    if not order:
        return None
    if order != later:
        return True
    # A fixed order may have been drawn once, by whoever made the list.
    return False if all(one <= other for one, other in pairwise(order)) else None


def _candidates(source: Any, length: int, order: list[int], later: list[int]) -> tuple[NDArray[np.int64], bool]:
    """Return the indices that a sampler may give, and whether it tells so itself."""
    if type(source) in _OF_ALL and length_of(source.data_source) == length:
        return np.arange(length), True
    if type(source) is WeightedRandomSampler and len(source.weights) <= length:
        return np.flatnonzero(source.weights.numpy() > 0), True
    # One data set may be split by the samplers of two loaders.
    drawn = np.unique(np.array([*order, *later], dtype=np.int64))
    return drawn[(drawn >= 0) & (drawn < length)], False
