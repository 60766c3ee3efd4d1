"""Random numbers while samples are read: seeds for each, whether an item sets them back, and whether workers differ."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch.utils.data._utils import worker as torch_worker

from .forked import Send, messages_of

_LEAST = 4  # items after which a generator stands alike
_READINGS = 3  # of each item by each worker: of few values that are drawn, more would be needed
_BASE_SEED = 7_340_033


def seed_item(reading: int, index: int) -> None:
    """Seed the global generators for a sample; another reading draws other numbers."""
    seed = (index * 2_654_435_761 + reading * 40_503 * 65_537 + 1) % 2**32
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)


class ResetWatch:
    """Watches which generators stand alike after each item, though they were seeded differently before it."""

    def __init__(self) -> None:
        self.count = 0
        self.states: dict[str, set[Any]] = {"random": set(), "numpy": set(), "torch": set()}

    def look(self) -> None:
        """Note how the generators stand after an item was read."""
        if self.count < 2 * _LEAST:
            self.count += 1
            # Without the place in the sequence, as items may draw more or fewer numbers.
            self.states["random"].add(random.getstate()[1][:-1])
            self.states["numpy"].add(np.random.get_state()[1].tobytes())  # type: ignore[index, union-attr]
            self.states["torch"].add(torch.initial_seed())

    def reset(self) -> tuple[str, ...]:
        """Return the names of the generators that each item sets to one state."""
        return tuple(name for name, of in self.states.items() if self.count >= _LEAST and len(of) == 1)


@contextmanager
def as_worker(loader: Any, number: int = 0) -> Iterator[None]:
    """Let a data set believe within the block that it is read by a worker of its loader, where that has workers."""
    before = torch_worker._worker_info
    if loader.num_workers > 0:
        torch_worker._worker_info = torch_worker.WorkerInfo(
            id=number, num_workers=loader.num_workers, seed=_BASE_SEED + number, dataset=loader.dataset
        )
    try:
        yield
    finally:
        torch_worker._worker_info = before


def start_worker(loader: Any, number: int = 0) -> None:
    """Call a loader's ``worker_init_fn``, where it has workers."""
    if loader.num_workers > 0 and loader.worker_init_fn is not None:
        with as_worker(loader, number), suppress(Exception):  # it is the user's
            loader.worker_init_fn(number)


def workers_alike(
    loader: Any, indices: Sequence[int], digest: Callable[[int], bytes | None], seconds: float
) -> bool | None:
    """Return whether two workers of a loader draw the same.

    None where it has fewer workers, or where one worker draws nothing for an item that it reads again and again.

    Args:
        loader: of the samples.
        indices: of a few samples.
        digest: reads a sample and returns the digest of its image.
        seconds: for both workers, at the same time.
    """
    if loader.num_workers < 2 or not indices:
        return None

    def work(number: int) -> Callable[[Send], None]:
        def read(send: Send) -> None:
            _seed_as_torch_does(number)
            start_worker(loader, number)
            with as_worker(loader, number):
                drawn = [digest(index) for index in indices for _ in range(_READINGS)]
                send([drawn, _with_own_chance(indices, digest)])

        return read

    told: list[list[list[bytes | None]]] = list(messages_of([work(0), work(1)], seconds))
    if len(told) < 2 or any(None in of for of in told[0]):
        return None
    # With all generators as a worker has them, or with those alone that the data set holds itself.
    alike = [one == other if _varies(one) else None for one, other in zip(*told, strict=True)]
    return True if True in alike else False if False in alike else None


def _with_own_chance(indices: Sequence[int], digest: Callable[[int], bytes | None]) -> list[bytes | None]:
    """Return digests of items that are read with the same global random numbers each time."""
    found = []
    for index in indices:
        for _ in range(_READINGS):
            seed_item(1, index)
            found.append(digest(index))
    return found


def _varies(digests: Sequence[bytes | None]) -> bool:
    """Whether an item differs from one reading to the next."""
    return any(len({*digests[first : first + _READINGS]}) > 1 for first in range(0, len(digests), _READINGS))


def _seed_as_torch_does(number: int) -> None:
    seed = _BASE_SEED + number
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    np.random.seed(torch_worker._generate_state(_BASE_SEED, number))
