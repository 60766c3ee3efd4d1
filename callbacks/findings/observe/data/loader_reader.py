"""Read the samples of one loader, within the child process: in one pass, again, and in batches."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, StackDataset, Subset

from ...probe.loader_probe import SampleProbe
from ...probe.overlap_probe import OverlapProbe
from .batches import MOST_ITEMS, cut, is_on_cpu, iterate, probe_batch
from .data_sets import ids_of, labels_of, length_of, overlap_of, reading_order, set_epoch_inside
from .draws import ResetWatch, as_worker, seed_item, start_worker, workers_alike
from .orders import Orders, draw_orders
from .pixels import Pixels, as_array, digest_of, measure
from .sample_reader import MOST_SMALL, Keys, SampleReader
from .shares import Share, plan_of

Tell = Callable[[str, Any], None]
Clock = Callable[[], float]

AGAIN = 24
_FEWEST = 4  # items of a batch, however slow they are
_FEWEST_AGAIN = 2
_BLANK = 4  # blank images that are read again too
_READINGS = 2
_LEFT_OUT = 64  # samples that the sampler leaves out, of which labels are read
_BATCHES = 3
_CHUNK, _CHUNK_SECONDS = 64, 0.05
_ASKED_WORKERS = 2  # samples
_WORKERS = 1.0  # seconds for two workers at a time, which rarely take a tenth of it
_LONGEST = 300
_KEPT = 64  # samples whose images are kept where they have masks or boxes, and whose neighbouring pixels are compared


class LoaderReader:
    """Reads one loader and tells what it sees.

    Args:
        key: of the loader.
        loader: as ``plain_loader`` returns it.
        keys: of the parts of an item.
        tell: takes the name of a field of ``LoaderProbe``, and its value or a part of it.
        full: whether all samples are to be read.
        by_chance: whether the runner seeds the generators for each item.
        share: what of it is read here.
        beside: loaders of the other kind, by key: of training those for validation.
        clock: gives the seconds that times are compared with.
    """

    def __init__(
        self,
        key: str,
        loader: Any,
        keys: Keys,
        tell: Tell,
        *,
        full: bool,
        by_chance: bool,
        share: Share,
        beside: Mapping[str, Any],
        clock: Clock = time.monotonic,
    ):
        self.clock = clock
        self.key, self.loader, self.keys, self.full, self.by_chance = key, loader, keys, full, by_chance
        self.tell, self.share, self.beside = tell, share, beside
        self.trains = key.startswith("train")
        self.reader = SampleReader(keys)
        self.watch = ResetWatch()
        self.orders = Orders()
        self.ids: tuple[str, ...] = ()
        self.mine: list[int] = []
        self.waiting: list[int] = []
        self.seen: dict[int, SampleProbe] = {}
        self.failed: set[int] = set()
        self.names: dict[int, str] = {}
        self.labels: dict[int, int] = {}
        self._chunk: list[SampleProbe] = []
        self._sent = time.monotonic()
        self._small = self._kept = frozenset[int]()

    def start(self) -> None:
        """Ask the loader for its orders, and its data set for ids."""
        length = _length_of(self.loader)
        self.tell("batches", length_of(self.loader) or 0)
        if length is None:
            return
        self.tell("length", length)
        self.orders = draw_orders(self.loader, length)
        for name in ("order", "epoch_length", "shuffles", "drawable"):
            self.tell(name, getattr(self.orders, name))
        self.tell("later_order", self.orders.later)
        self.ids = ids_of(self.loader.dataset)
        candidates = self.orders.candidates
        drawn = reading_order(candidates, self.loader.dataset, self.ids if len(self.ids) == length else ())
        # All of them are read in the order of the files, of which a disk gives one after the other.
        order = self._suspects_first(candidates.tolist() if self.full else drawn)
        self._choose_kept(order, drawn)
        self.mine = self.share.of_order(order)
        self.waiting = self.mine[::-1]
        self.tell("candidates", len(self.mine))
        if self.share.of > 1:
            self.tell("plan", plan_of(order, self.ids, labels_of(self.loader.dataset)))
        self._ask_workers()
        start_worker(self.loader)

    def _ask_workers(self) -> None:
        # Before an item is read here: a data set may make its generator then, in each worker for itself. What follows
        # from the seed of an item is alike in all workers, and differs between samples.
        if self.trains and self.share.leads and not self.by_chance:
            asked = self.mine[:_ASKED_WORKERS]
            self.tell("workers_alike", workers_alike(self.loader, asked, self._drawn_digest, _WORKERS))

    def _suspects_first(self, order: list[int]) -> list[int]:
        """Return the order after those samples that seem to be another loader's, which reads them first as well."""
        overlaps: dict[str, OverlapProbe] = {}
        for key, other in self.beside.items():
            with suppress(Exception):  # data sets of the user's may raise anything
                overlap = overlap_of(self.loader, other)
                overlaps |= {} if overlap is None else {key: overlap}
        self.tell("overlaps", overlaps)
        known = set(order)
        suspects = [mine for overlap in overlaps.values() for mine, _ in overlap.pairs if mine in known]
        return [*dict.fromkeys([*suspects, *order])]

    def _choose_kept(self, order: list[int], drawn: list[int]) -> None:
        # By what they are, not by when they are read, so that it is the same however the order is shared out.
        first = [index for batch in self.orders.batches for index in batch[:MOST_ITEMS]]
        self._small = frozenset([*drawn[:MOST_SMALL], *first])
        begun = self.orders.batches[0][:MOST_ITEMS] if self.orders.batches else ()
        self._kept = frozenset([*dict.fromkeys([*begun, *order])][:_KEPT])

    def read_samples(self, until: float) -> None:
        """Read the samples that come next until a time."""
        set_epoch_inside(self.loader.dataset, 1)
        while self.waiting and self.clock() < until:
            index = self.waiting.pop()
            if index not in self.seen and index not in self.failed:
                self._read(index)

    def read_batches(self, first: int, count: int, until: float, *, sends: int) -> None:
        """Make some of the first batches.

        Args:
            first: number of the first one.
            count: how many.
            until: when to stop.
            sends: how many of the loader's batches, from the first on, are to be sent whole.
        """
        if not self.orders.batches:
            if first == 0:
                self._iterate(until, sends)
            return
        set_epoch_inside(self.loader.dataset, 1)
        last = min(first + count, len(self.orders.batches))
        for number in range(first, last):
            # Each one has its share of what time is left.
            share = self.clock() + (until - self.clock()) / (last - number)
            read = self._read_items(self.orders.batches[number][:MOST_ITEMS], share)
            if len(read) >= min(_FEWEST, len(self.orders.batches[number])):
                self._send_batch(read, whole=number < sends)

    def read_again(self, until: float) -> None:
        """Read some samples again, in another order and for another epoch."""
        # Of all samples, others may have read some.
        known = self.orders.candidates.tolist() if self.full else [it for it in self.seen if self.seen[it].digest]
        chosen = [known[place] for place in np.linspace(0, len(known) - 1, min(AGAIN, len(known))).astype(int)]
        # Whether an image is blank in its file, or by what was drawn for it.
        blank = [] if self.full else [it for it in known if self.seen[it].is_blank][:_BLANK]
        chosen = [*dict.fromkeys([*chosen, *blank])]
        again: dict[int, bytes] = {}
        small: dict[int, NDArray[np.float32]] = {}
        fixed = "fixed_epoch" in self.loader.__dict__  # whose epochs all draw alike
        set_epoch_inside(self.loader.dataset, 1 if fixed else 2)
        for index in reversed(chosen):
            if self.clock() > until and len(again) >= _FEWEST_AGAIN:
                break
            pixels = self._pixels(index, 1 if fixed else 2)
            if pixels is None:
                continue
            again[index] = pixels.digest
            # What it differs from may be read by another rank.
            image = pixels.small() if index not in self.seen or self._differs(index, pixels.digest) else None
            if image is not None:
                small[index] = image
        self.tell("again", again)
        self.tell("again_small", small)

    def read_left_out(self, until: float) -> None:
        """Read the labels of some samples that the sampler cannot give, where the data set does not hold them."""
        length, found = _length_of(self.loader) or 0, dict[int, int]()
        if not self.labels or not 0 < self.orders.drawable < length or labels_of(self.loader.dataset) is not None:
            return
        others = np.setdiff1d(np.arange(length), self.orders.candidates)
        for index in others[np.linspace(0, len(others) - 1, min(len(others), _LEFT_OUT)).astype(int)].tolist():
            if self.clock() > until and len(found) >= _FEWEST:
                break
            label = self._label(index)
            if label is not None:
                found[index] = label
        self.tell("left_out", found)

    def finish(self) -> None:
        """Tell what follows from all samples that were read."""
        self._flush()
        self.tell("complete", len(self.mine) > 0 and self.seen.keys() | self.failed >= {*self.mine})
        held = all(index < len(self.ids) and self.ids[index] == name for index, name in self.names.items())
        self.tell("held", held)
        # A list of all samples of the data set need not be one of those of the loader.
        is_list = held and len(self.ids) == len(self.orders.candidates) > 0
        if not is_list or self.share.of > 1:
            self.tell("names", self.names)
        if not self.share.leads:
            return
        self.tell("reseeds", self.watch.reset())
        if is_list:
            self.tell("ids", self.ids)
        labels = labels_of(self.loader.dataset) if len(self.orders.candidates) else None
        if labels is not None and self.labels and self._agree(labels):
            self.tell("labels", labels)

    def _read(self, index: int) -> tuple[Any, SampleProbe | None] | None:
        """Return an item, and its sample where it is one; None where it cannot be read."""
        self._seed(1, index)
        try:
            with as_worker(self.loader):
                item = _item(self.loader.dataset, index)
        except Exception as error:  # noqa: BLE001 - a data set may raise anything
            self._note_error(index, error)
            return None
        self.watch.look()
        if item is None:
            return None
        if index in self.seen:
            return item, self.seen[index]
        sample = self.reader.read(index, item, closely=index in self._kept)
        if sample is None:
            return item, None
        if sample.name == str(index) and self.keys.name(item) is None and index < len(self.ids):
            sample = replace(sample, name=self.ids[index])
        if index not in self._small:
            sample = replace(sample, small=None)
        self._keep(index, sample, self.keys.name(item))
        return item, sample

    def _keep(self, index: int, sample: SampleProbe, name: str | None) -> None:
        # Of what was sent no more is needed here.
        target = sample.target if sample.label is not None else None
        self.seen[index] = SampleProbe(
            index, sample.name, sample.digest, std=sample.std, low=sample.low, high=sample.high, target=target
        )
        if name is not None:
            self.names[index] = name
        if sample.label is not None:
            self.labels[index] = sample.label
        self._chunk.append(sample)
        if len(self._chunk) >= _CHUNK or time.monotonic() - self._sent > _CHUNK_SECONDS:
            self._flush()

    def _flush(self) -> None:
        if self._chunk:
            self.tell("samples", {sample.index: sample for sample in self._chunk})
        self._chunk, self._sent = [], time.monotonic()

    def _note_error(self, index: int, error: Exception) -> None:
        self.failed.add(index)
        # Who reads whole batches by itself may leave out what cannot be read.
        if not _reads_batches(self.loader.dataset):
            self.tell("errors", {index: " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST]})

    def _read_items(self, indices: Sequence[int], until: float) -> list[tuple[Any, SampleProbe | None]]:
        read: list[tuple[Any, SampleProbe | None]] = []
        for index in indices:
            if self.clock() > until and len(read) >= _FEWEST:
                break
            found = self._read(index)
            if found is not None:
                read.append(found)
        return read

    def _send_batch(self, read: list[tuple[Any, SampleProbe | None]], *, whole: bool) -> None:
        try:
            with as_worker(self.loader):
                batch = self.loader.collate_fn([item for item, _ in read])
        except Exception:  # noqa: BLE001 - a collate of the user's may raise anything
            return
        samples = [sample for _, sample in read if sample is not None]
        known = len(samples) == len(read)
        items = [item for item, _ in read] if known else []
        self._tell_batch(batch, samples if known else [], items, whole=whole)

    def _tell_batch(self, batch: Any, samples: list[SampleProbe], items: list[Any], *, whole: bool) -> None:
        if not is_on_cpu(batch):
            return
        self.tell("batches_seen", probe_batch(batch, self.keys, samples, items))
        if whole:
            self.tell("first_batches", cut(batch))

    def _iterate(self, until: float, sends: int) -> None:
        try:
            for number, batch in enumerate(iterate(self.loader, _BATCHES, lambda: self.clock() > until)):
                self._tell_batch(batch, [], [], whole=number < sends)
        except Exception:  # noqa: BLE001 - a data set may raise anything
            return

    def _differs(self, index: int, digest: bytes) -> bool:
        return index in self.seen and self.seen[index].digest != digest

    def _pixels(self, index: int, reading: int) -> Pixels | None:
        """Return what a sample's image measures, read with the random numbers of a reading."""
        self._seed(reading, index)
        try:
            with as_worker(self.loader):
                return measure(self.keys.image(_item(self.loader.dataset, index)))
        except Exception:  # noqa: BLE001 - a data set may raise anything
            return None

    def _seed(self, reading: int, index: int) -> None:
        # Loaders for validation draw other numbers: what is drawn anew for each is not the same for that.
        seed_item(reading if self.trains else reading + _READINGS, index)

    def _label(self, index: int) -> int | None:
        self._seed(1, index)
        try:
            with as_worker(self.loader):
                array = as_array(self.keys.target(_item(self.loader.dataset, index)))
        except Exception:  # noqa: BLE001 - a data set may raise anything
            return None
        return None if array is None else SampleProbe(index, "", b"", target=array).label

    def _drawn_digest(self, index: int) -> bytes | None:
        image = self.keys.image(_item(self.loader.dataset, index))
        array = as_array(image)
        return None if array is None else digest_of(image, array)

    def _agree(self, labels: NDArray[np.int64]) -> bool:
        return all(index < len(labels) and labels[index] == label for index, label in self.labels.items())


def plain_loader(loader: Any) -> Any:
    """Return the loader of the user, of one that wraps it or gives a rank its share."""
    inner = getattr(loader, "origin", None) or getattr(getattr(loader, "batch_sampler", None), "loader", None)
    return loader if inner is None or inner is loader else plain_loader(inner)


def _length_of(loader: Any) -> int | None:
    """Return how many samples can be read by index; None where none can."""
    dataset = getattr(loader, "dataset", None)
    by_index = hasattr(type(dataset), "__getitem__") and not isinstance(dataset, IterableDataset)
    if not by_index or getattr(loader, "batch_sampler", None) is None:
        return None
    return length_of(dataset)


def _item(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except NotImplementedError:
        return dataset.__getitems__([index])[0]


def _reads_batches(dataset: Any) -> bool:
    # Torch's wrappers read whole batches only where the data set inside does.
    reads = getattr(type(dataset), "__getitems__", None)
    if reads is Subset.__getitems__:
        return _reads_batches(dataset.dataset)
    return reads is not None and reads is not StackDataset.__getitems__
