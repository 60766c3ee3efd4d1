"""The validation samples that an exported model is compared on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Subset

from assay.callbacks.errors import UsageError, listing

from ..data.seeding import mix

MOST = 32
_BATCH = 8


class Samples(NamedTuple):
    """Batches of validation samples, and how many there are in the loader."""

    batches: list[Mapping[str, Any]]
    total: int


def draw_samples(loaders: Mapping[str, DataLoader[Any]], seed: int) -> Samples:
    """Return at most ``MOST`` samples of the loader for validation, drawn by the seed, in batches of different sizes.

    Args:
        loaders: of the experiment; the first one whose name begins with ``valid`` counts.
        seed: of the experiment.

    Raises:
        UsageError: there is no such loader, or it is empty.
    """
    loader = next((loader for name, loader in loaders.items() if name.startswith("valid")), None)
    if loader is None:
        raise UsageError(f"export needs a loader for validation, to check the file; there is {listing(loaders)}.")
    dataset: Any = loader.dataset
    total = len(dataset)
    if total == 0:
        raise UsageError("export needs validation samples, to check the file; the loader is empty.")
    order = torch.randperm(total, generator=torch.Generator().manual_seed(mix(seed, total)))[:MOST].tolist()
    # One sample first, then several: the file must take any number.
    places = list(range(len(order)))
    groups = [places[:1], *(places[at : at + _BATCH] for at in range(1, len(places), _BATCH))]
    chosen = DataLoader(Subset(dataset, order), batch_sampler=groups, collate_fn=loader.collate_fn)
    return Samples(list(chosen), total)
