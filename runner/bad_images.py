"""What becomes of samples that cannot be read: left out of their batch, counted and listed."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from catalyst import dl
from torch.utils.data import Dataset, default_collate

from assay.callbacks.distributed import gather_objects
from assay.callbacks.errors import UsageError
from assay.callbacks.printable import printable

from .batch_size import SizedBatch, batch_size
from .chance import fetching, read_item
from .chance_sources import seeds_of
from .images import BadImageError
from .item_errors import item_names
from .whole_files import save_text

ON_BAD_IMAGE = ("raise", "skip")
_SHOWN = 5


class NoGoodImageError(BadImageError):
    """No sample is left when those whose image cannot be read are left out."""


class WithoutBadImages(Dataset[Any]):
    """Leaves the samples that cannot be read out of their batch, and remembers them.

    Such are those whose image is broken, and whatever else the data set raises an error for, or gives as None. Where no
    sample of a batch is left, the next samples of the data set that can be read stand in for it, in a batch of the type
    ``StandIn``: the runner counts nothing of that. In the gradient of an optimizer step of several batches or ranks
    each batch weighs as if none of its samples were left out. A loader needs ``Collate`` as its ``collate_fn``.

    Args:
        items: the data set.
    """

    hands_on = True  # errors name the items of the data set itself

    def __init__(self, items: Dataset[Any]):
        self.items = items
        self.is_bad = torch.zeros(len(self), dtype=torch.bool).share_memory_()  # the workers set it

    def set_epoch(self, epoch: int) -> None:
        """Tell the data set the epoch, where it asks for it."""
        if hasattr(self.items, "set_epoch"):
            self.items.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        return self.items[index]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the items of a batch that can be read, or else what stands in for them."""
        items = [item for index in indices if (item := self._read(index)) is not None]
        return items or self._stand_ins(indices[-1])

    def why(self, index: int) -> str:
        """Return what is wrong with a sample, by reading it once more."""
        _, why = self._try(index)
        return why or f"item {index} could not be read at first, and now it can"

    def _read(self, index: int) -> Any:
        item, why = self._try(index)
        if why:
            self.is_bad[index] = True
        return item

    def _try(self, index: int) -> tuple[Any, str]:
        """Return an item, or None and what is wrong with it."""
        try:
            item = read_item(self.items, index)
        except BadImageError as error:
            return None, str(error)
        except (UsageError, MemoryError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever a data set of the user's raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            return None, f"{item_names(self.items, [index])}: {reason}"
        return item, "" if item is not None else f"{item_names(self.items, [index])} is None"

    def _stand_ins(self, behind: int) -> "_StandIns":
        for step in range(1, len(self) + 1):
            item = self._read((behind + step) % len(self))
            if item is not None:
                return _StandIns([item, item])  # two: a layer that normalizes over the batch refuses one
        raise NoGoodImageError(
            f"none of the data set's {len(self)} samples can be read; the last one: {self.why(behind)}"
        )


class StandIn(dict[str, Any]):
    """A batch of which nothing counts: it keeps a step going that others take."""


class _StandIns(list[Any]):
    """The items of a ``StandIn``."""


class Collate:
    """Makes the batch of what ``WithoutBadImages`` returns, as a ``StandIn`` where its items stand in for others.

    Args:
        join: makes a batch of items; by default torch's ``default_collate``.
    """

    def __init__(self, join: Callable[[Any], Any] | None = None):
        self.join = default_collate if join is None else join

    def __call__(self, items: list[Any]) -> Any:
        """Return the batch; a dict that may hold fewer samples than were asked for knows their number."""
        batch = self.join(items)
        if not isinstance(batch, dict):
            return batch
        return StandIn(batch) if isinstance(items, _StandIns) else SizedBatch(batch, batch_size(batch, len(items)))


collate = Collate()


class BadImages(dl.Callback):
    """Gathers the bad images that the loaders left out, on all ranks, and lists them in a file.

    The file is written at the end of an epoch, and not at all while there is nothing to list: a line a sample, with the
    loader, the id, the image file and what is wrong with it.

    Args:
        path: the file.
    """

    def __init__(self, path: Path):
        super().__init__(order=dl.CallbackOrder.Internal)  # before the checkpoint, which saves what was found
        self.path = path
        self.found_: dict[str, dict[int, str]] = {}  # by loader and index

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        before = self.count()
        for key, dataset in _skipping(runner).items():
            shard = runner.loaders[key].batch_sampler
            with fetching(shard.seed, shard.epoch, seeds_of((dataset,))):  # a transform may fail by what it draws
                self._gather(key, dataset)
        if self.count() > before and runner.engine.is_main_process:
            save_text(self.path, printable("".join(f"{line}\n" for line in self.lines())))

    def loader_state(self, runner: dl.IRunner) -> dict[str, list[int]]:
        """Return which samples this rank has left out so far, for a run that goes on within the epoch."""
        return {key: of.is_bad.nonzero().flatten().tolist() for key, of in _skipping(runner).items()}

    def load_loader_state(self, runner: dl.IRunner, state: Mapping[str, Sequence[int]]) -> None:
        """Take back what ``loader_state`` returned."""
        for key, dataset in _skipping(runner).items():
            dataset.is_bad[list(state.get(key, ()))] = True

    def state_dict(self) -> dict[str, dict[int, str]]:
        """Return what was found in the epochs before, for a run that is resumed."""
        return {key: dict(of) for key, of in self.found_.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[int, str]]) -> None:
        """Take back what ``state_dict`` returned."""
        self.found_ = {key: dict(of) for key, of in state.items()}

    def count(self) -> int:
        """Return how many samples were left out, each counted once."""
        return sum(len(of) for of in self.found_.values())

    def lines(self) -> list[str]:
        """Return a line a sample, in the order of loaders and samples."""
        return [f"{key}: {why}" for key, of in self.found_.items() for _, why in sorted(of.items())]

    def summary(self) -> list[str]:
        """Return the words for the end of a run: how many there were, and the first of them."""
        if not self.found_:
            return []
        by_loader = ", ".join(f"{key} {len(of)}" for key, of in self.found_.items())
        shown = [f"  {line}" for line in self.lines()[:_SHOWN]]
        rest = ["  ..."] if self.count() > _SHOWN else []
        return [f"bad images left out: {by_loader}; all are listed in {self.path}", *shown, *rest]

    def _gather(self, key: str, dataset: WithoutBadImages) -> None:
        mine = dataset.is_bad.nonzero().flatten().tolist()
        known = self.found_.get(key, {})
        new = {index for of_rank in gather_objects(mine) for index in of_rank} - known.keys()
        if new:
            self.found_[key] = known | {index: dataset.why(index) for index in new}


def _skipping(runner: dl.IRunner) -> dict[str, WithoutBadImages]:
    """Return the data sets, by loader, that leave bad images out."""
    datasets = {key: loader.dataset for key, loader in runner.loaders.items()}
    return {key: dataset for key, dataset in datasets.items() if isinstance(dataset, WithoutBadImages)}
