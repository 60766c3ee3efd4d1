"""Mends of loaders: Catalyst's wrappers, and how processes share the batches."""

from collections.abc import Iterator
from itertools import chain, pairwise
from typing import Any

from accelerate.data_loader import prepare_data_loader
from catalyst.core.runner import IRunner
from catalyst.data.loader import ILoaderWrapper
from catalyst.utils.misc import set_global_seed
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from assay.callbacks.support.distributed import from_main_rank

from .fault import fault


@fault()
def wrapped_loaders() -> bool:
    """Catalyst's loader wrappers return None for attributes of the wrapped loader, and BatchOverfitCallback fails."""
    ILoaderWrapper.__getattr__ = _ask_origin
    return True


@fault(changes_numbers=True)
def padding() -> bool:
    """On several processes samples are repeated until each has full batches: 250 samples count as 256."""
    IRunner._setup_loaders = _set_up_loaders
    return True


class EvenShard(BatchSampler):
    """The batches of one process; all processes take the same number of steps, without repeating or omitting samples.

    Each takes every n-th batch. The samples of an incomplete last round are distributed evenly, together with those of
    the previous round if they are fewer than the processes. Samples are repeated only where they cannot be distributed:
    in a single round with fewer samples than processes, and where a sampler composes its batches itself.

    Args:
        batch_sampler: of the loader as it would run on one process.
        rank: this process.
        ranks: number of processes.
    """

    def __init__(self, batch_sampler: Any, rank: int, ranks: int):
        self.batch_sampler = batch_sampler
        self.rank = rank
        self.ranks = ranks
        self.sampler: Any = getattr(batch_sampler, "sampler", None)
        self.batch_size: Any = getattr(batch_sampler, "batch_size", None)
        self.drop_last = getattr(batch_sampler, "drop_last", False)

    def __len__(self) -> int:
        rounds, left = divmod(len(self.batch_sampler), self.ranks)
        return rounds + bool(left and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of this process, in the order that the first process draws. A collective."""
        order = from_main_rank([list(batch) for batch in self.batch_sampler])
        full = len(order) // self.ranks * self.ranks
        left = [] if self.drop_last else order[full:]
        # Another sampler may put into a batch what belongs together, as pairs do: it must not be taken apart.
        if left and type(self.batch_sampler) is not BatchSampler:
            left += [left[-1]] * (self.ranks - len(left))
        elif left:
            if full and sum(map(len, left)) < self.ranks:
                full -= self.ranks
            left = deal(list(chain(*order[full:])), -(-len(order[full:]) // self.ranks) * self.ranks)
        yield from (order[:full] + left)[self.rank :: self.ranks]


def deal(samples: list[int], batches: int) -> list[list[int]]:
    """Distribute samples over batches whose sizes differ by at most one; none is empty."""
    # Where there are fewer samples than batches, the last one is repeated: every process needs a batch.
    samples = samples + [samples[-1]] * (batches - len(samples))
    bounds = [len(samples) * number // batches for number in range(batches + 1)]
    return [samples[first:last] for first, last in pairwise(bounds)]


def _ask_origin(wrapper: Any, key: str) -> Any:
    """Replace ``ILoaderWrapper.__getattr__``."""
    if key == "origin":  # not set yet while a copy is made, which would recurse without end
        raise AttributeError(key)
    return getattr(wrapper.origin, key)


def _set_up_loaders(runner: Any) -> None:
    """Replace ``IRunner._setup_loaders``."""
    set_global_seed(runner.seed + max(0, runner.engine.process_index) + runner.epoch_step)
    runner.loaders = {key: _prepare_loader(runner.engine, loader) for key, loader in runner.get_loaders().items()}


def _prepare_loader(engine: Any, loader: Any) -> Any:
    batched = isinstance(loader, DataLoader) and loader.batch_sampler is not None
    if engine.num_processes == 1 or not batched or isinstance(loader.dataset, IterableDataset):
        return engine.prepare(loader)
    shard = EvenShard(loader.batch_sampler, engine.process_index, engine.num_processes)
    mine = DataLoader(loader.dataset, batch_sampler=shard, **_loader_options(loader))
    # accelerate must only move batches to the device; with the real number of processes it would share them out again.
    return prepare_data_loader(mine, engine.device, num_processes=1, process_index=0, put_on_device=True)


def _loader_options(loader: DataLoader[Any]) -> dict[str, Any]:
    names = ("collate_fn", "generator", "num_workers", "persistent_workers", "pin_memory", "timeout", "worker_init_fn")
    options = {name: getattr(loader, name) for name in names}
    if loader.num_workers:
        options |= {name: getattr(loader, name) for name in ("multiprocessing_context", "prefetch_factor")}
    return options
