"""Leave samples that cannot be read out of their batch, and count and list them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from catalyst import dl
from torch.utils.data import Dataset, default_collate

from assay.callbacks.base.order import FIRST
from assay.callbacks.errors import UsageError
from assay.callbacks.support.atomic_files import save_text
from assay.callbacks.support.distributed import gather_objects
from assay.callbacks.support.printable import printable

from .batch_size import SizedBatch, batch_size
from .chance import fetching, read_item
from .chance_sources import seeds_of
from .files.image_errors import BadImageError
from .item_errors import item_names

_SHOWN = 5  # lines in the summary at the end of a run


class NoGoodImageError(BadImageError):
    """None of the samples of a data set can be read."""


class WithoutBadImages(Dataset[Any]):
    """Leaves samples that cannot be read out of their batch, and remembers them.

    A sample is left out if its image is broken, if the data set raises any other error for it, or if it is None. Where
    no sample of a batch is left, the next readable samples of the data set replace it in a ``StandIn`` batch, of which
    the runner counts nothing. In the gradient of an optimizer step over several batches or ranks, each batch has the
    weight that it would have without bad samples. The loader needs ``Collate`` as its ``collate_fn``.

    Args:
        items: the data set.
    """

    hands_on_items = True  # tells item_errors to name the item of the wrapped data set

    def __init__(self, items: Dataset[Any]):
        self.items = items
        # In shared memory: the loader's workers set it, and the main process lists it.
        self.is_bad = torch.zeros(len(self), dtype=torch.bool).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Pass the epoch on to the data set, where it has ``set_epoch``."""
        if hasattr(self.items, "set_epoch"):
            self.items.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the items of a batch that can be read, or else their stand-ins."""
        items = [item for index in indices if (item := self._read_or_mark(index)) is not None]
        return items or self._find_stand_ins(indices[-1])

    def why(self, index: int) -> str:
        """Return what is wrong with a sample, by reading it once more."""
        # Only flags pass from the workers through shared memory, no texts.
        _, why = self._try_to_read(index)
        return why or f"item {index} could not be read at first, and now it can"

    def _read_or_mark(self, index: int) -> Any:
        item, why = self._try_to_read(index)
        if why:
            self.is_bad[index] = True
        return item

    def _try_to_read(self, index: int) -> tuple[Any, str]:
        """Return an item and "", or None and what is wrong with it."""
        try:
            item = read_item(self.items, index)
        except BadImageError as error:
            return None, str(error)
        except (UsageError, MemoryError):
            raise  # no fault of the sample
        except Exception as error:  # noqa: BLE001 - a data set of the user's may raise anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return None, f"{item_names(self.items, [index])}: {reason}"
        return item, "" if item is not None else f"{item_names(self.items, [index])} is None"

    def _find_stand_ins(self, after: int) -> "_StandIns":
        for step in range(1, len(self) + 1):
            item = self._read_or_mark((after + step) % len(self))
            if item is not None:
                return _StandIns([item, item])  # two, because batch normalization refuses a batch of one
        raise NoGoodImageError(
            f"none of the data set's {len(self)} samples can be read; the last one: {self.why(after)}"
        )


class StandIn(dict[str, Any]):
    """A batch that counts for nothing; with it a rank takes part in the step of the other ranks."""


class _StandIns(list[Any]):
    """The items of a ``StandIn``."""


class Collate:
    """Collates what ``WithoutBadImages`` returns, to a ``StandIn`` where no item of the batch could be read.

    Args:
        join: collates items; by default torch's ``default_collate``.
    """

    def __init__(self, join: Callable[[Any], Any] | None = None):
        self.join = default_collate if join is None else join

    def __call__(self, items: list[Any]) -> Any:
        """Return the batch; a dict records how many samples it holds, which may be fewer than were asked for."""
        batch = self.join(items)
        if not isinstance(batch, dict):
            return batch
        return StandIn(batch) if isinstance(items, _StandIns) else SizedBatch(batch, batch_size(batch, len(items)))


collate = Collate()


class BadImages(dl.Callback):
    """Gathers the bad images that the loaders of all ranks left out, and lists them in a file.

    The file is written at the end of an epoch in which something was left out. It has one line per sample, with the
    loader, the id, the image file and what is wrong with it.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        super().__init__(order=FIRST)
        self.path = path
        self.found_: dict[str, dict[int, str]] = {}  # by loader and index

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        before = self.count()
        for key, dataset in _skipping_datasets(runner).items():
            shard = runner.loaders[key].batch_sampler
            # Bad samples are read once more with the draws of the epoch: a transform may fail on what it drew.
            with fetching(shard.seed, shard.epoch, seeds_of((dataset,))):
                self._gather_bad(key, dataset)
        if self.count() > before and runner.engine.is_main_process:
            save_text(self.path, printable("".join(f"{line}\n" for line in self.lines())))

    def loader_state(self, runner: dl.IRunner) -> dict[str, list[int]]:
        """Return which samples this rank has left out so far, for resuming within the epoch."""
        return {key: of.is_bad.nonzero().flatten().tolist() for key, of in _skipping_datasets(runner).items()}

    def load_loader_state(self, runner: dl.IRunner, state: Mapping[str, Sequence[int]]) -> None:
        """Restore what ``loader_state`` returned."""
        for key, dataset in _skipping_datasets(runner).items():
            dataset.is_bad[list(state.get(key, ()))] = True

    def state_dict(self) -> dict[str, dict[int, str]]:
        """Return what was found so far, for resuming the run."""
        return {key: dict(of) for key, of in self.found_.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[int, str]]) -> None:
        """Restore what ``state_dict`` returned."""
        self.found_ = {key: dict(of) for key, of in state.items()}

    def count(self) -> int:
        """Return how many samples were left out, each counted once."""
        return sum(len(of) for of in self.found_.values())

    def lines(self) -> list[str]:
        """Return one line per sample, in the order of loaders and samples."""
        return [f"{key}: {why}" for key, of in self.found_.items() for _, why in sorted(of.items())]

    def summary(self) -> list[str]:
        """Return the lines to print at the end of a run: how many there were, and the first of them."""
        if not self.found_:
            return []
        by_loader = ", ".join(f"{key} {len(of)}" for key, of in self.found_.items())
        shown = [f"  {line}" for line in self.lines()[:_SHOWN]]
        rest = ["  ..."] if self.count() > _SHOWN else []
        return [f"bad images left out: {by_loader}; all are listed in {self.path}", *shown, *rest]

    def _gather_bad(self, key: str, dataset: WithoutBadImages) -> None:
        # A collective: every rank calls it for every loader, whether it has found something or not.
        mine = dataset.is_bad.nonzero().flatten().tolist()
        known = self.found_.get(key, {})
        new = {index for of_rank in gather_objects(mine) for index in of_rank} - known.keys()
        if new:
            self.found_[key] = known | {index: dataset.why(index) for index in new}


def _skipping_datasets(runner: dl.IRunner) -> dict[str, WithoutBadImages]:
    """Return the data sets that leave bad images out, by loader."""
    datasets = {key: loader.dataset for key, loader in runner.loaders.items()}
    return {key: dataset for key, dataset in datasets.items() if isinstance(dataset, WithoutBadImages)}
