"""Runs on a few batches: the dry run, and the test whether a model can learn some batches by heart."""

import copy
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

from assay.callbacks.distributed import from_main_rank
from assay.callbacks.errors import UsageError, listing

from .bad_images import WithoutBadImages
from .data import Augmented, Transform
from .run_checks import check_loader
from .seeding import data_sets

Loaders = Mapping[str, DataLoader[Any]]

_FROM_ALL = (RandomSampler, SequentialSampler, SubsetRandomSampler)


class FirstBatches(Sampler[list[int]]):
    """The first batches of a batch sampler, whose order is drawn as ever.

    Args:
        batch_sampler: gives the batches.
        count: how many to take, no more than there are.
    """

    def __init__(self, batch_sampler: Any, count: int):
        self.batch_sampler = batch_sampler
        self.count = count

    @property
    def sampler(self) -> Any:
        """The sampler that is seeded."""
        return getattr(self.batch_sampler, "sampler", None)

    def set_epoch(self, epoch: int) -> None:
        """Tell the batch sampler the epoch, where it asks for it."""
        if hasattr(self.batch_sampler, "set_epoch"):
            self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        return islice(iter(self.batch_sampler), self.count)


def limit_batches(loaders: Loaders, count: int, ranks: int) -> dict[str, DataLoader[Any]]:
    """Return the loaders with at most ``count`` batches each, of each of ``ranks`` processes.

    They are those that a pass begins with: where a loader shuffles, others in every epoch.
    """
    _check(loaders)
    return {key: _limited(loader, count * ranks) for key, loader in loaders.items()}


def overfit_batches(loaders: Loaders, count: int, ranks: int, seed: int = 0) -> dict[str, DataLoader[Any]]:
    """Return loaders that give the same ``count`` batches of each of ``ranks`` processes in every epoch.

    A loader for training gives batches that are drawn from all of its samples by chance, which follows from the seed:
    the first ones of a folder are mostly of one class. In an ``Augmented`` data set the
    transform of the first loader for validation stands in for its own; what any other draws by the epoch, it draws once
    and for all. Loaders for validation give the batches of the first loader for training, others at most as many of
    their own.

    Raises:
        UsageError: there is no loader for training.
    """
    _check(loaders)
    trained = {key: loader for key, loader in loaders.items() if key.startswith("train")}
    if not trained:
        raise UsageError(f"overfit_batches needs a loader for training; there is {listing(loaders)}.")
    transform = _plain_transform(loaders)
    same = {key: _frozen(loader, count * ranks, transform, seed) for key, loader in trained.items()}
    first = next(iter(same.values()))
    others = {key: first if key.startswith("valid") else _limited(loaders[key], count * ranks) for key in loaders}
    return {**others, **same}


def _check(loaders: Loaders) -> None:
    for key, loader in loaders.items():
        check_loader(key, loader)


def _limited(loader: DataLoader[Any], count: int) -> DataLoader[Any]:
    if len(loader) <= count:
        return loader
    return _with(loader, batch_sampler=FirstBatches(loader.batch_sampler, count))


def _frozen(loader: DataLoader[Any], count: int, transform: Transform | None, seed: int) -> DataLoader[Any]:
    batches = from_main_rank(_by_chance(loader, count, seed))
    skips = isinstance(loader.dataset, WithoutBadImages)
    dataset: Any = loader.dataset.items if isinstance(loader.dataset, WithoutBadImages) else loader.dataset
    if transform is not None:
        dataset = _by_transform(dataset, transform)
    few: Dataset[Any] = Subset(dataset, [index for batch in batches for index in batch])
    places = iter(range(sum(map(len, batches))))
    return _with(
        loader,
        dataset=WithoutBadImages(few) if skips else few,
        sampler=SequentialSampler(few),  # type: ignore[arg-type]
        batch_sampler=[list(islice(places, len(batch))) for batch in batches],
        fixed_epoch=0,  # what is drawn by the epoch is drawn once and for all
    )


def _by_chance(loader: DataLoader[Any], count: int, seed: int) -> list[list[int]]:
    """Return batches of samples that are drawn from all; of a sampler of another kind, some of those that it gives."""
    batches: Any = loader.batch_sampler
    chance = torch.Generator().manual_seed(seed)
    sampler: Any = getattr(batches, "sampler", None)
    if type(batches) is BatchSampler and isinstance(sampler, _FROM_ALL):
        all_of_them = sampler.indices if isinstance(sampler, SubsetRandomSampler) else range(len(sampler.data_source))
        drawn = [all_of_them[place] for place in torch.randperm(len(all_of_them), generator=chance).tolist()]
        return list(islice(BatchSampler(drawn, batches.batch_size, batches.drop_last), count))
    given = [list(batch) for batch in islice(iter(batches), len(loader))]
    return [given[place] for place in sorted(torch.randperm(len(given), generator=chance).tolist()[:count])]


def _plain_transform(loaders: Loaders) -> Transform | None:
    """Return what the images of a loader for validation go through; None where that is not known."""
    for key, loader in loaders.items():
        augmented = [part for part in data_sets(loader.dataset) if isinstance(part, Augmented)]
        if key.startswith("valid") and augmented:
            return augmented[0].transform
    return None


def _by_transform(dataset: Any, transform: Transform) -> Any:
    """Return a data set whose ``Augmented`` has another transform, also within those of torch that choose and join."""
    other = copy.copy(dataset)
    if isinstance(dataset, Augmented):
        other.transform = transform
    elif isinstance(dataset, Subset):
        other.dataset = _by_transform(dataset.dataset, transform)
    elif isinstance(dataset, ConcatDataset):
        other.datasets = [_by_transform(part, transform) for part in dataset.datasets]
    else:
        return dataset
    return other


def _with(loader: DataLoader[Any], **parts: Any) -> DataLoader[Any]:
    # A loader that is made refuses these, and a new one would lose what a subclass does.
    other = copy.copy(loader)
    other.__dict__.update(parts, _iterator=None)
    return other
