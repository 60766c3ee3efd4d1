"""How a loader of the runner fetches: with a batch's indices goes the chance that it is drawn by."""

import copy
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset, StackDataset, Subset, get_worker_info

from .chance import fetching, read_item, seed_batch
from .chance_sources import Seed, seeds_of
from .item_errors import named_in_errors
from .seeding import tell_epoch
from .worker_start import NotStarted, keep_quiet_of_lost_reader, pack, unpack


class Batch(list[Any]):
    """The indices of a batch, and the seed and epoch that it is fetched for, on their way to whoever fetches it.

    Args:
        indices: of the samples.
        seed: of the run.
        epoch: from 1.
    """

    def __init__(self, indices: Iterable[Any], seed: int, epoch: int):
        super().__init__(indices)
        self.seed, self.epoch = seed, epoch


class Fetched(Dataset[Any]):
    """Reads the samples of a ``Batch`` and makes a batch of them, drawing by (seed, epoch, index) alone.

    Samples are read one by one, so that what one draws does not depend on the others of its batch. Where the data set
    itself reads whole batches, by a ``__getitems__`` of its own, the batch is drawn for as a whole.

    Args:
        items: the data set.
        collate: the loader's ``collate_fn``; what it draws follows from (seed, epoch, indices).
        worker_init: the loader's ``worker_init_fn``.
    """

    def __init__(self, items: Any, collate: Any, worker_init: Any = None):
        self.items, self.collate, self.worker_init = items, collate, worker_init
        self._epoch: int | None = None
        self._seeds: dict[int, Seed] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_in_worker, pack((self.items, self.collate, self.worker_init))

    def __getitems__(self, batch: Batch) -> Any:
        """Return the batch itself, not its items."""
        if batch.epoch != self._epoch:
            self._begin(batch.epoch)
        with fetching(batch.seed, batch.epoch, self._seeds):
            items = self._read(batch)
            seed_batch(list(batch))
            with named_in_errors(self.items, batch, items):
                return self.collate(items)

    def _begin(self, epoch: int) -> None:
        # A worker has a copy of the data set, which nobody else can tell.
        if get_worker_info() is not None:
            tell_epoch(self.items, epoch)
        self._epoch = epoch
        self._seeds = seeds_of((self.items, self.collate))

    def _read(self, batch: Batch) -> Any:
        if not _reads_batches(self.items):
            return [read_item(self.items, index) for index in batch]
        seed_batch(list(batch))
        with named_in_errors(self.items, batch):
            return self.items.__getitems__(list(batch))


def fetch_by_chance(loader: DataLoader[Any]) -> None:
    """Have a loader, whose ``batch_sampler`` gives ``Batch``, fetch by ``Fetched``.

    Its attributes stay what they are: callbacks find the data set in ``loader.dataset``, and may change it.
    """
    loader.__dict__["_get_iterator"] = _Iterators(loader)


class _Iterators:
    """Makes a loader's iterators; it does not hold the loader, which holds it."""

    def __init__(self, loader: DataLoader[Any]):
        self.loader = weakref.ref(loader)

    def __call__(self) -> Any:
        loader: Any = copy.copy(self.loader())
        del loader.__dict__["_get_iterator"]
        fetched = Fetched(loader.dataset, loader.collate_fn, loader.worker_init_fn)
        # A loader that is made refuses another data set.
        loader.__dict__.update(dataset=fetched, collate_fn=_as_it_is, worker_init_fn=_begin_worker)
        return loader._get_iterator()


def _as_it_is(batch: Any) -> Any:
    return batch


def _made_in_worker(files: Mapping[str, Path], packed: bytes) -> Fetched | NotStarted:
    parts = unpack(files, packed)
    return NotStarted(parts) if isinstance(parts, Exception) else Fetched(*parts)


def _begin_worker(number: int) -> None:
    """Show the user's code in a worker the user's data set, and call its ``worker_init_fn``."""
    keep_quiet_of_lost_reader()
    info: Any = get_worker_info()
    fetched = info.dataset
    if isinstance(fetched, NotStarted):
        return
    object.__setattr__(info, "dataset", fetched.items)  # it is frozen
    if fetched.worker_init is not None:
        fetched.worker_init(number)


def _reads_batches(items: Any) -> bool:
    """Whether a data set reads whole batches by itself; torch's wrappers do where what they wrap does."""
    reads = getattr(type(items), "__getitems__", None)
    if reads is Subset.__getitems__:
        return _reads_batches(items.dataset)
    if reads is StackDataset.__getitems__:
        parts = items.datasets.values() if isinstance(items.datasets, dict) else items.datasets
        return any(map(_reads_batches, parts))
    return callable(getattr(items, "__getitems__", None))
