"""Limit loaders to a few batches, for the dry run and the overfit test."""

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

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.support.distributed import from_main_rank
from assay.callbacks.support.unwrap import data_sets

from ..data.augmented import Augmented, Transform
from ..data.bad_images import WithoutBadImages
from ..data.mixing import unmixed
from .checks.run_checks import check_loader

Loaders = Mapping[str, DataLoader[Any]]

_FROM_ALL = (RandomSampler, SequentialSampler, SubsetRandomSampler)


class FirstBatches(Sampler[list[int]]):
    """The first batches of a batch sampler, in the order that it draws.

    Args:
        batch_sampler: yields the batches.
        count: how many to take, at most as many as there are.
    """

    def __init__(self, batch_sampler: Any, count: int):
        self.batch_sampler = batch_sampler
        self.count = count

    @property
    def sampler(self) -> Any:
        """The sampler that is seeded."""
        return getattr(self.batch_sampler, "sampler", None)

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to the batch sampler, where it has ``set_epoch``."""
        if hasattr(self.batch_sampler, "set_epoch"):
            self.batch_sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[list[int]]:
        return islice(iter(self.batch_sampler), self.count)


def limit_batches(loaders: Loaders, count: int, ranks: int) -> dict[str, DataLoader[Any]]:
    """Return the loaders with at most ``count`` batches each for each of ``ranks`` processes.

    They are the first batches of each pass, which differ between epochs if the loader shuffles.
    """
    _check_loaders(loaders)
    return {key: _limit_loader(loader, count * ranks) for key, loader in loaders.items()}


def overfit_batches(loaders: Loaders, count: int, ranks: int, seed: int = 0) -> dict[str, DataLoader[Any]]:
    """Return loaders that yield the same ``count`` batches for each of ``ranks`` processes in every epoch.

    Training loaders yield batches drawn from all of their samples with the seed, which are not mixed. An ``Augmented``
    data set takes the transform of the first validation loader in place of its own; any other draws the same in every
    epoch. Validation loaders yield the batches of the first training loader, others at most as many of their own.

    Raises:
        UsageError: there is no loader for training.
    """
    _check_loaders(loaders)
    trained = {key: unmixed(loader) for key, loader in loaders.items() if key.startswith("train")}
    if not trained:
        raise UsageError(f"overfit_batches needs a loader for training; there is {listing(loaders)}.")
    transform = _validation_transform(loaders)
    same = {key: _freeze_loader(loader, count * ranks, transform, seed) for key, loader in trained.items()}
    first = next(iter(same.values()))
    others = {key: first if key.startswith("valid") else _limit_loader(loaders[key], count * ranks) for key in loaders}
    return {**others, **same}


def _check_loaders(loaders: Loaders) -> None:
    for key, loader in loaders.items():
        check_loader(key, loader)


def _limit_loader(loader: DataLoader[Any], count: int) -> DataLoader[Any]:
    if len(loader) <= count:
        return loader
    return _copy_loader(loader, batch_sampler=FirstBatches(loader.batch_sampler, count))


def _freeze_loader(loader: DataLoader[Any], count: int, transform: Transform | None, seed: int) -> DataLoader[Any]:
    batches = from_main_rank(_draw_batches(loader, count, seed))
    skips = isinstance(loader.dataset, WithoutBadImages)
    dataset: Any = loader.dataset.items if isinstance(loader.dataset, WithoutBadImages) else loader.dataset
    if transform is not None:
        dataset = _replace_transform(dataset, transform)
    few: Dataset[Any] = Subset(dataset, [index for batch in batches for index in batch])
    places = iter(range(sum(map(len, batches))))
    return _copy_loader(
        loader,
        dataset=WithoutBadImages(few) if skips else few,
        sampler=SequentialSampler(few),  # type: ignore[arg-type]
        batch_sampler=[list(islice(places, len(batch))) for batch in batches],
        fixed_epoch=0,  # each epoch draws as this one, so that the model meets the same pixels
    )


def _draw_batches(loader: DataLoader[Any], count: int, seed: int) -> list[list[int]]:
    """Return batches drawn from all samples, or, of an unknown kind of sampler, some of the batches that it yields."""
    # Not the first ones: sorted by file, those of a folder are mostly of one class.
    batches: Any = loader.batch_sampler
    chance = torch.Generator().manual_seed(seed)
    sampler: Any = getattr(batches, "sampler", None)
    if type(batches) is BatchSampler and isinstance(sampler, _FROM_ALL):
        all_of_them = sampler.indices if isinstance(sampler, SubsetRandomSampler) else range(len(sampler.data_source))
        drawn = [all_of_them[place] for place in torch.randperm(len(all_of_them), generator=chance).tolist()]
        return list(islice(BatchSampler(drawn, batches.batch_size, batches.drop_last), count))
    given = [list(batch) for batch in islice(iter(batches), len(loader))]
    return [given[place] for place in sorted(torch.randperm(len(given), generator=chance).tolist()[:count])]


def _validation_transform(loaders: Loaders) -> Transform | None:
    """Return the transform of the first validation loader with an ``Augmented`` data set; None if there is none."""
    for key, loader in loaders.items():
        augmented = [part for part in data_sets(loader.dataset) if isinstance(part, Augmented)]
        if key.startswith("valid") and augmented:
            return augmented[0].transform
    return None


def _replace_transform(dataset: Any, transform: Transform) -> Any:
    """Return a data set whose ``Augmented`` has another transform, also inside ``Subset`` and ``ConcatDataset``."""
    other = copy.copy(dataset)  # the user's own objects are left as they are
    if isinstance(dataset, Augmented):
        other.transform = transform
    elif isinstance(dataset, Subset):
        other.dataset = _replace_transform(dataset.dataset, transform)
    elif isinstance(dataset, ConcatDataset):
        other.datasets = [_replace_transform(part, transform) for part in dataset.datasets]
    else:
        return dataset
    return other


def _copy_loader(loader: DataLoader[Any], **parts: Any) -> DataLoader[Any]:
    # DataLoader forbids setting these, and a new loader would lose what a subclass overrides.
    other = copy.copy(loader)
    other.__dict__.update(parts, _iterator=None)
    return other
