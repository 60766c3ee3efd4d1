"""Make a loader send seed and epoch along with the indices of each batch, so that its draws repeat."""

import copy
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader, Dataset, StackDataset, Subset, get_worker_info

from .chance import fetching, read_item, seed_batch
from .chance_sources import Seed, seeds_of
from .item_errors import named_in_errors
from .seeding import set_epoch_inside
from .worker_start import NotStarted, pack, silence_lost_reader, unpack


class Batch(list[Any]):
    """The indices of a batch, with the seed and epoch that it is read for.

    Args:
        indices: of the samples.
        seed: of the run.
        epoch: from 1.
    """

    def __init__(self, indices: Iterable[Any], seed: int, epoch: int):
        super().__init__(indices)
        self.seed, self.epoch = seed, epoch


class Fetched(Dataset[Any]):
    """Reads and collates the samples of a ``Batch``; their draws depend on (seed, epoch, index) alone.

    Samples are read one by one, so that the draws for one do not depend on the others of its batch. A data set with a
    ``__getitems__`` of its own reads whole batches; then the draws depend on the indices of the batch.

    Args:
        items: the data set.
        collate: the loader's ``collate_fn``; its draws depend on (seed, epoch, indices).
        worker_init: the loader's ``worker_init_fn``.
    """

    def __init__(self, items: Any, collate: Any, worker_init: Any = None):
        self.items, self.collate, self.worker_init = items, collate, worker_init
        self._epoch: int | None = None
        self._seeds: dict[int, Seed] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle_in_worker, pack((self.items, self.collate, self.worker_init))

    def __getitems__(self, batch: Batch) -> Any:
        """Return the collated batch, not its items."""
        if batch.epoch != self._epoch:
            self._start_epoch(batch.epoch)
        with fetching(batch.seed, batch.epoch, self._seeds):
            items = self._read_items(batch)
            seed_batch(list(batch))
            with named_in_errors(self.items, batch, items):
                return self.collate(items)

    def _start_epoch(self, epoch: int) -> None:
        # A worker has a copy of the data set, which the main process cannot reach.
        if get_worker_info() is not None:
            set_epoch_inside(self.items, epoch)
        self._epoch = epoch
        # Once per epoch: the data set may have changed, and a search per batch would be slow.
        self._seeds = seeds_of((self.items, self.collate))

    def _read_items(self, batch: Batch) -> Any:
        if not _reads_batches(self.items):
            return [read_item(self.items, index) for index in batch]
        seed_batch(list(batch))
        with named_in_errors(self.items, batch):
            return self.items.__getitems__(list(batch))


def fetch_by_chance(loader: DataLoader[Any]) -> None:
    """Make a loader, whose ``batch_sampler`` yields ``Batch``, read through ``Fetched``.

    Its attributes are kept: callbacks find the data set in ``loader.dataset``, and may replace it.
    """
    loader.__dict__["_get_iterator"] = _Iterators(loader)


class _Iterators:
    """Creates the iterators of a loader."""

    def __init__(self, loader: DataLoader[Any]):
        # Weak, as the loader holds this object, and only the garbage collector would free a cycle.
        self.loader = weakref.ref(loader)

    def __call__(self) -> Any:
        loader: Any = copy.copy(self.loader())
        del loader.__dict__["_get_iterator"]
        fetched = Fetched(loader.dataset, loader.collate_fn, loader.worker_init_fn)
        # DataLoader forbids setting these attributes after its constructor.
        loader.__dict__.update(dataset=fetched, collate_fn=_return_batch, worker_init_fn=_init_worker)
        return loader._get_iterator()


def _return_batch(batch: Any) -> Any:
    return batch


def _unpickle_in_worker(files: Mapping[str, Path], packed: bytes) -> Fetched | NotStarted:
    parts = unpack(files, packed)
    return NotStarted(parts) if isinstance(parts, Exception) else Fetched(*parts)


def _init_worker(number: int) -> None:
    """Call the user's ``worker_init_fn``, with the user's data set in ``get_worker_info()``."""
    silence_lost_reader()
    info: Any = get_worker_info()
    fetched = info.dataset
    if isinstance(fetched, NotStarted):
        return
    object.__setattr__(info, "dataset", fetched.items)  # WorkerInfo forbids plain assignment
    if fetched.worker_init is not None:
        fetched.worker_init(number)


def _reads_batches(items: Any) -> bool:
    """Whether a data set reads whole batches itself."""
    # Torch's wrappers have __getitems__ too; they read whole batches only if the data set inside does.
    reads = getattr(type(items), "__getitems__", None)
    if reads is Subset.__getitems__:
        return _reads_batches(items.dataset)
    if reads is StackDataset.__getitems__:
        parts = items.datasets.values() if isinstance(items.datasets, dict) else items.datasets
        return any(map(_reads_batches, parts))
    return callable(getattr(items, "__getitems__", None))
