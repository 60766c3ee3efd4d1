"""Chance as a function: what is drawn follows from a seed, an epoch and an index, and from nothing else."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from accelerate.data_loader import get_sampler
from catalyst.utils.misc import set_global_seed
from torch.utils.data import DataLoader

from assay.callbacks.rng import RngState


def mix(*numbers: int) -> int:
    """Return one 32-bit seed from several non-negative numbers; any change in one gives an unrelated seed."""
    # Their count goes in as well: NumPy pads with zeros, and (7,) and (7, 0) would give one seed.
    return int(np.random.SeedSequence((len(numbers), *numbers)).generate_state(1)[0])


def seed_everything(*numbers: int) -> None:
    """Seed Python's, NumPy's and torch's generators, on every device, with ``mix(*numbers)``."""
    set_global_seed(mix(*numbers))


def seed_order(loader: DataLoader[Any], seed: int, epoch: int) -> None:
    """Make the order of a loader's next pass, and its augmentation, a function of seed and epoch.

    Samplers with a torch ``generator`` (those of torch that draw at random) are seeded; samplers and data sets with
    ``set_epoch`` are told the epoch.
    """
    sampler = get_sampler(loader)
    if isinstance(getattr(sampler, "generator", 0), torch.Generator | None):
        generator = sampler.generator = sampler.generator or torch.Generator()
        generator.manual_seed(mix(seed, epoch))
    parts: tuple[Any, ...] = (loader.batch_sampler, sampler, loader.dataset)
    for part in parts:
        if hasattr(part, "set_epoch"):
            part.set_epoch(epoch)


def rng_state() -> dict[str, Any]:
    """Return the state of every generator that this process draws from, in types that ``weights_only=True`` loads."""
    return RngState.take(_device()).portable()


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Restore what ``rng_state`` returned."""
    RngState.from_portable(state, _device()).restore()


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")  # a process has one GPU, the current one
