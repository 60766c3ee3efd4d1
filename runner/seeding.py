"""Chance as a function: what is drawn follows from a seed, an epoch and an index, and from nothing else."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import get_sampler
from catalyst.utils.misc import set_global_seed
from torch.utils.data import DataLoader, Dataset

from assay.callbacks.rng import RngState

from .chance_sources import seeds_of

_MOST_INSIDE = 1000  # longer lists hold samples, not data sets


def mix(*numbers: int) -> int:
    """Return one 32-bit seed from several non-negative numbers; any change in one gives an unrelated seed."""
    # Their count goes in as well: NumPy pads with zeros, and (7,) and (7, 0) would give one seed.
    return int(np.random.SeedSequence((len(numbers), *numbers)).generate_state(1)[0])


def seed_everything(*numbers: int) -> None:
    """Seed Python's, NumPy's and torch's generators, on every device, with ``mix(*numbers)``."""
    set_global_seed(mix(*numbers))


def seed_order(loader: DataLoader[Any], seed: int, epoch: int) -> None:
    """Make the order of a loader's next pass a function of seed and epoch.

    Samplers with a torch ``generator`` (those of torch that draw at random) are seeded, and whatever else they draw
    from; samplers and data sets with ``set_epoch`` are told the epoch.
    """
    sampler = get_sampler(loader)
    if isinstance(getattr(sampler, "generator", 0), torch.Generator | None):
        sampler.generator = sampler.generator or torch.Generator()
    samplers: tuple[Any, ...] = (loader.batch_sampler, getattr(loader.batch_sampler, "batch_sampler", None), sampler)
    for place, seed_source in seeds_of(samplers).items():
        seed_source(mix(seed, epoch, place))
    if isinstance(getattr(sampler, "generator", None), torch.Generator):
        sampler.generator.manual_seed(mix(seed, epoch))
    for part in samplers:
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
    tell_epoch(loader.dataset, epoch)


def tell_epoch(dataset: Any, epoch: int) -> None:
    """Call ``set_epoch`` of a data set and of those inside it, where they have it."""
    for part in data_sets(dataset):
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)


def data_sets(dataset: Any) -> list[Any]:
    """Return a data set, and those that it holds in its attributes, also in lists and dicts, at any depth."""
    found = {id(dataset): dataset}
    waiting = [dataset]
    while waiting:
        inside = {id(part): part for part in _inside(waiting.pop())}
        waiting += [part for key, part in inside.items() if key not in found]
        found |= inside
    return list(found.values())


def rng_state() -> dict[str, Any]:
    """Return the state of every generator that this process draws from, in types that ``weights_only=True`` loads."""
    return RngState.take(_device()).portable()


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what ``rng_state`` returned."""
    RngState.from_portable(state, _device()).restore()


def _inside(dataset: Any) -> list[Any]:
    found: list[Any] = []
    for value in getattr(dataset, "__dict__", {}).values():
        values = value.values() if isinstance(value, dict) else value
        if not isinstance(value, list | tuple | dict) or len(value) > _MOST_INSIDE:
            values = [value]
        found += [one for one in values if isinstance(one, Dataset) or hasattr(type(one), "set_epoch")]
    return found


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")  # a process has one GPU, the current one
