"""Runs on a few batches: the dry run, and the test whether a model can learn some batches by heart."""

import copy
import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from torch.utils.data import (
    BatchSampler,
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
from .monitor import History, Monitor
from .run_checks import check_loader

Loaders = Mapping[str, DataLoader[Any]]

_WANTED_METRIC = 0.95
_WANTED_LOSS = 0.1  # of that of the first epoch


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


def overfit_batches(loaders: Loaders, count: int, ranks: int) -> dict[str, DataLoader[Any]]:
    """Return loaders that give the same ``count`` batches of each of ``ranks`` processes in every epoch.

    A loader for training gives its first batches in the order of its data set. In an ``Augmented`` data set the
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
    same = {key: _frozen(loader, count * ranks, transform) for key, loader in trained.items()}
    first = next(iter(same.values()))
    others = {key: first if key.startswith("valid") else _limited(loaders[key], count * ranks) for key in loaders}
    return {**others, **same}


def overfit_verdict(history: History, monitor: Monitor, count: int) -> str:
    """Return a line that says whether a run learned its ``count`` batches by heart, and by which figures.

    Where the monitor is to be large and is 1 at most, as an accuracy, it decides: it must have reached 0.95 in some
    epoch, on the loader for training or on its own. The samples are the same, but a normalization by running means
    follows a few steps late. Otherwise the loss in training decides: it must have fallen to a tenth of that of the
    first epoch.
    """
    start = history[min(history)]
    key = next(key for key in start if key.startswith("train"))
    loss = Monitor(key, "loss", minimize=True)
    loss_figures = f"{loss.name} {loss.value(start):.4g} at first and {_best(loss, history):.4g} at best"
    metrics = [Monitor(one, monitor.metric, minimize=False) for one in (key, monitor.loader)]
    metrics = [one for one in metrics if one.metric in start[one.loader] and _best(one, history) <= 1]
    if monitor.minimize or not metrics:
        learned = 0 <= _best(loss, history) <= _WANTED_LOSS * loss.value(start)
        figures = f"{loss_figures}, at most {_WANTED_LOSS * loss.value(start):.4g} is wanted"
    else:
        best = max(metrics, key=lambda one: _best(one, history))
        learned = _best(best, history) >= _WANTED_METRIC
        figures = f"{best.name} {best.value(start):.4g} at first and {_best(best, history):.4g} at best, "
        figures += f"at least {_WANTED_METRIC} is wanted; {loss_figures}"
    advice = "" if learned else "; try more --epochs or another --lr, then look at targets, loss and model"
    return f"overfits {count} batches: {'yes' if learned else 'no'}: {figures}{advice}"


def _best(monitor: Monitor, history: History) -> float:
    epoch = monitor.best(history)
    return math.nan if epoch is None else monitor.value(history[epoch])


def _check(loaders: Loaders) -> None:
    for key, loader in loaders.items():
        check_loader(key, loader)


def _limited(loader: DataLoader[Any], count: int) -> DataLoader[Any]:
    if len(loader) <= count:
        return loader
    return _with(loader, batch_sampler=FirstBatches(loader.batch_sampler, count))


def _frozen(loader: DataLoader[Any], count: int, transform: Transform | None) -> DataLoader[Any]:
    batches = from_main_rank(_first_in_order(loader, count))
    skips = isinstance(loader.dataset, WithoutBadImages)
    dataset: Any = loader.dataset.items if isinstance(loader.dataset, WithoutBadImages) else loader.dataset
    if isinstance(dataset, Augmented) and transform is not None:
        dataset = copy.copy(dataset)
        dataset.transform = transform
    few: Dataset[Any] = Subset(dataset, [index for batch in batches for index in batch])
    places = iter(range(sum(map(len, batches))))
    return _with(
        loader,
        dataset=WithoutBadImages(few) if skips else few,
        sampler=SequentialSampler(few),  # type: ignore[arg-type]
        batch_sampler=[list(islice(places, len(batch))) for batch in batches],
        fixed_epoch=0,  # what is drawn by the epoch is drawn once and for all
    )


def _first_in_order(loader: DataLoader[Any], count: int) -> list[list[int]]:
    """Return the first batches without shuffling; those of a sampler that is not torch's, as it draws them."""
    batches: Any = loader.batch_sampler
    if type(batches) is BatchSampler:
        sampler: Any = batches.sampler
        order: Any = sampler.indices if isinstance(sampler, SubsetRandomSampler) else sampler
        if isinstance(sampler, RandomSampler):
            order = range(len(loader.dataset))  # type: ignore[arg-type]
        batches = BatchSampler(order, batches.batch_size, batches.drop_last)
    return [list(batch) for batch in islice(iter(batches), count)]


def _plain_transform(loaders: Loaders) -> Transform | None:
    """Return what the images of a loader for validation go through; None where that is not known."""
    for key, loader in loaders.items():
        dataset: Any = loader.dataset
        dataset = dataset.items if isinstance(dataset, WithoutBadImages) else dataset
        if key.startswith("valid") and isinstance(dataset, Augmented):
            return dataset.transform
    return None


def _with(loader: DataLoader[Any], **parts: Any) -> DataLoader[Any]:
    # A loader that is made refuses these, and a new one would lose what a subclass does.
    other = copy.copy(loader)
    other.__dict__.update(parts, _iterator=None)
    return other
