"""Derive seeds from (seed, epoch, index), and seed generators and the order of loaders."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import get_sampler
from catalyst.utils.misc import set_global_seed
from torch.utils.data import DataLoader

from assay.callbacks.support.rng import RngState
from assay.callbacks.support.unwrap import data_sets

from .chance_sources import seeds_of


def mix(*numbers: int) -> int:
    """Return a 32-bit seed from several non-negative numbers; any change in one gives an unrelated seed.

    Example:
        >>> mix(0, 1) == mix(0, 1), mix(0, 1) == mix(1, 0)
        (True, False)
    """
    # With their count: NumPy pads with zeros, and (7,) and (7, 0) would give the same seed.
    return int(np.random.SeedSequence((len(numbers), *numbers)).generate_state(1)[0])


def seed_everything(*numbers: int) -> None:
    """Seed Python's, NumPy's and torch's generators, on every device, with ``mix(*numbers)``."""
    set_global_seed(mix(*numbers))


def seed_order(loader: DataLoader[Any], seed: int, epoch: int) -> None:
    """Make the order of a loader's next pass a function of seed and epoch.

    Seeds the ``generator`` of torch's random samplers and any other source that samplers draw from, and calls
    ``set_epoch`` of samplers and data sets that have it.
    """
    sampler = get_sampler(loader)
    if isinstance(getattr(sampler, "generator", 0), torch.Generator | None):
        sampler.generator = sampler.generator or torch.Generator()
    # A batch sampler may wrap another one, as accelerate's shards do.
    samplers: tuple[Any, ...] = (loader.batch_sampler, getattr(loader.batch_sampler, "batch_sampler", None), sampler)
    for place, seed_source in seeds_of(samplers).items():
        seed_source(mix(seed, epoch, place))
    # Without a place, unlike the sources above: seed and epoch alone decide the order, however it is wrapped.
    if isinstance(getattr(sampler, "generator", None), torch.Generator):
        sampler.generator.manual_seed(mix(seed, epoch))
    for part in samplers:
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)
    set_epoch_inside(loader.dataset, epoch)


def set_epoch_inside(dataset: Any, epoch: int) -> None:
    """Call ``set_epoch`` of a data set and of the data sets inside it, where they have it."""
    for part in data_sets(dataset):
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)


def rng_state() -> dict[str, Any]:
    """Return the state of all generators of this process, in types that ``weights_only=True`` loads."""
    return RngState.take(_current_device()).portable()


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what ``rng_state`` returned."""
    RngState.from_portable(state, _current_device()).restore()


def _current_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")  # a process has one GPU, the current one
