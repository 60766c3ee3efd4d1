"""Thumbnails: small pictures of the samples of a run, of all where they fit, else of those that a list names."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from catalyst import dl
from torch import Tensor

from ...base.image_checks import check_images
from ...drawings.canvas.picture_style import PictureStyle
from ...errors import UsageError
from ...measures.small_pictures import small_pictures
from ...samples.sample_ranking import SamplePicture
from ...support.distributed import from_main_rank, gather_objects, gather_to_main_rank, world_size
from ...support.host_copy import HostCopy
from ...support.runner_view import given_loaders, host_targets
from ...tensorboard.writer import Writer
from .encoder import Encoded, Encoder, host_names
from .jpeg import SIDE, decode, encode
from .stored_samples import StoredSamples

if TYPE_CHECKING:
    from .stored_thumbnails import StoredThumbnails
    from .thumbnail_files import ThumbnailFiles

BUDGET = 64 * 2**20  # bytes of the thumbnails of a run
_OF_ALL = 7 / 8  # of the budget, where all samples have one: the rest is for what is drawn of those that are named
_AT_ONCE = 1024  # thumbnails that ranks exchange, so that memory does not grow with their number
_RENEWED = 4  # a picture of an epoch is drawn anew after a quarter as many more
_USUAL = 6 * 2**10  # bytes of a thumbnail, before one is known
_PATIENCE = 0.2  # seconds between looks whether the thread that is waited for has failed

_log = logging.getLogger("assay")


@dataclass
class OfLoader:
    """The thumbnails of a loader.

    Attributes:
        key: of the loader.
        files: where they are; used on the main process alone.
        budget: bytes that they may take.
        stored: reads samples as they are stored; None: they are shown as the model saw them.
        wanted: ids of samples of which the next epoch takes a picture; None: of all.
        has_no_images: whether its batches hold none.
        plan: what the thread of the writer finds for that; None: it has not been asked.
        shapes: height and width of its images as the model saw them, of up to two kinds.
    """

    key: str
    files: "ThumbnailFiles"
    budget: int
    stored: "StoredThumbnails | None" = None
    wanted: frozenset[str] | None = None
    has_no_images: bool = False
    plan: "Future[frozenset[str] | None] | None" = field(default=None, repr=False)
    shapes: set[tuple[int, int]] = field(default_factory=set)


class Thumbnails:
    """Takes small pictures of samples, once of each, and keeps them as JPEG files within Parquet files.

    Where the pictures of all samples of a loader fit into its share of the budget, all are taken in the first epoch;
    of the others those that are named: by ``named_samples(loader)`` of any callback, and by what ``named`` returns.
    Samples of training are read as they are stored, in a thread, where their data set tells (see
    ``history.pictures.stored_samples``); all others are shown as the model saw them. Nothing is read from the device
    within a step. Memory: 8 MiB of pictures that are not encoded yet, and the budget.

    Args:
        image_key: key of the images in the batch.
        style: undoes the normalization.
        required: whether batches without images are an error, and not merely left without thumbnails.
        budget: bytes of a run, at least 1; every loader has a share by its number of samples.
        named: returns the numbers of samples of a loader that lists name, the most important first, from the folder.
    """

    def __init__(
        self,
        image_key: str,
        style: PictureStyle,
        *,
        required: bool = False,
        budget: int = BUDGET,
        named: Callable[[Path], Sequence[int]] = lambda folder: (),
    ):
        self.image_key, self.style, self.required, self.budget, self.named = image_key, style, required, budget, named
        self.loaders: dict[str, OfLoader] = {}
        self.by_callbacks: dict[str, list[str]] = {}  # ids that callbacks named at the end of the last epoch
        self._now: OfLoader | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "Thumbnails":
        # Locks cannot be copied. The validation before the first epoch runs copies of all callbacks.
        options: dict[str, Any] = {"required": self.required, "budget": self.budget, "named": self.named}
        return Thumbnails(self.image_key, self.style, **options)

    def start(self, runner: dl.IRunner, folders: Mapping[str, Path], writers: Mapping[str, Writer], begun: int) -> None:
        """Begin a run.

        Args:
            runner: of the run.
            folders: of the samples of each loader that has thumbnails.
            writers: of each loader.
            begun: the last epoch of which files are kept.
        """
        from .stored_thumbnails import StoredThumbnails
        from .thumbnail_files import ThumbnailFiles

        given = given_loaders(runner)
        budgets = _shares(self.budget, {key: _length(given.get(key)) for key in folders})
        for key, folder in folders.items():
            files = ThumbnailFiles(folder)
            stored = StoredSamples.of(getattr(given.get(key), "dataset", None)) if key.startswith("train") else None
            reader = (
                None if stored is None else StoredThumbnails(stored, files, budgets[key], int(budgets[key] * _OF_ALL))
            )
            self.loaders[key] = OfLoader(key, files, budgets[key], reader)
            writers[key].call(partial(files.cut, begun))

    def source(self, loader: str) -> str:
        """Return whether a loader's samples are shown as they are ``stored``, or as they were ``seen`` by the model."""
        return "seen" if self.loaders[loader].stored is None else "stored"

    def shows(self, loader: str) -> bool:
        """Return whether a loader has pictures, as far as its batches have told."""
        one = self.loaders.get(loader)
        return one is not None and not one.has_no_images

    def shape_of(self, loader: str) -> tuple[int, int] | None:
        """Return height and width of what the pictures of a loader show, as far as they are the same for all."""
        one = self.loaders[loader]
        return next(iter(one.shapes)) if one.stored is None and len(one.shapes) == 1 else None

    def pictures_of(self, loader: str, numbers: Sequence[int], ids: Sequence[str]) -> list[np.ndarray | None]:
        """Return the pictures of some samples, [H, W, 3], uint8; None for one without. For the writer's thread.

        Args:
            loader: its key.
            numbers: of the samples.
            ids: of the same.
        """
        one = self.loaders[loader]
        files, stored = one.files.read(numbers), one.stored
        found = [decode(files[number]) if number in files else None for number in numbers]
        if stored is None:
            return found
        # Of one that the thread has not come to yet.
        return [stored.picture(name) if one is None else one for one, name in zip(found, ids, strict=True)]

    def begin(self, runner: dl.IRunner, writer: Writer) -> Encoder | None:
        """Begin a loader, and return what takes its pictures; None where none are taken. A collective."""
        self._now = None
        one, epoch = self.loaders.get(runner.loader_key), runner.epoch_step
        if one is None:
            return None
        writer.call(partial(one.files.cut, epoch - 1))
        if epoch > 1 and one.plan is None and runner.engine.is_main_process:
            self._make_plan(one, epoch - 1, writer)
        wanted = None if one.plan is None else _waited(one.plan, writer)
        one.wanted, reads_stored = from_main_rank((wanted, one.stored is not None))
        if reads_stored:
            one.wanted = frozenset()
        one.plan, self._now = None, one
        return Encoder(int(one.budget * _OF_ALL) if one.wanted is None else one.budget)

    def observe(self, runner: dl.IRunner, encoder: Encoder | None, id_key: str, positions: Sequence[int]) -> None:
        """Take the pictures of a batch that are wanted.

        Args:
            runner: whose batch it is.
            encoder: what ``begin`` returned.
            id_key: key of the ids in the batch.
            positions: of the samples in the loader, which name them where there are no ids.
        """
        one = self._now
        if one is not None and len(one.shapes) < 2:
            one.shapes |= _shapes(runner.batch.get(self.image_key))
        if encoder is None or one is None or encoder.is_over or (one.wanted is not None and not one.wanted):
            return
        images = self._images(runner, one)
        if images is None:
            return
        ids = runner.batch.get(id_key, positions)
        if one.wanted is not None:
            images, ids = _chosen(images, _known_ids(runner, id_key, ids), one.wanted)
        if not len(images):
            return
        parts = [images] if isinstance(images, Tensor) else [image[None] for image in images]
        small = [small_pictures(part, SIDE, self.style.mean, self.style.std) for part in parts]
        size = sum(part.numel() for part in small)
        encoder.add(host_names(ids), [HostCopy(part, own=True) for part in small], "image", size)

    def report(self, runner: dl.IRunner, encoder: Encoder | None, writer: Writer) -> None:
        """Write the pictures of a loader that has ended, after its samples are written. A collective."""
        one, self._now, epoch = self._now, None, runner.epoch_step
        if encoder is None or one is None:
            return
        if one.wanted is not None and not one.wanted:
            encoder.close()
            return
        takes_all = one.wanted is None
        if world_size() == 1:
            # The loop need not wait for the pictures.
            writer.call(lambda: _write(one, epoch, encoder.finish(), takes_all))
            return
        found = _over_ranks(encoder)
        if runner.engine.is_main_process:
            writer.call(lambda: _write(one, epoch, found, takes_all))

    def take(self, runner: dl.IRunner, loader: str, writer: Writer) -> None:
        """Have the pictures drawn that other callbacks have of single samples of a loader, which they let go of."""
        one = self.loaders.get(loader)
        if one is not None and runner.engine.is_main_process and (found := _pictures_by(runner, loader)):
            writer.call(partial(_draw, one, runner.epoch_step, found))

    def end_epoch(self, runner: dl.IRunner, writers: Mapping[str, Writer]) -> None:
        """Find out of which samples pictures are wanted next."""
        self.by_callbacks = {key: _named_by(runner, key) for key in self.loaders}
        if not runner.engine.is_main_process:
            return
        for key, one in self.loaders.items():
            self.take(runner, key, writers[key])
            self._make_plan(one, runner.epoch_step, writers[key])

    def finish(self) -> None:
        """Wait for the samples that are still to be read; called where a run ends as it should."""
        for one in self.loaders.values():
            if one.stored is not None and (left := one.stored.finish()):
                _log.warning("thumbnails: %s of %r were not read in time, and have none", f"{left:,}", one.key)

    def close(self) -> None:
        """Stop reading."""
        for one in self.loaders.values():
            if one.stored is not None:
                one.stored.close()

    def _make_plan(self, one: OfLoader, epoch: int, writer: Writer) -> None:
        if writer.drops_all:
            return  # as in the validation before a run goes on: nobody would answer
        plan: Future[frozenset[str] | None] = Future()
        one.plan, names = plan, self.by_callbacks.get(one.key, [])
        writer.call(lambda: plan.set_result(self._planned(one, epoch, names)))

    def _planned(self, one: OfLoader, epoch: int, names: Sequence[str]) -> frozenset[str] | None:
        """Return the ids of the samples of which the next epoch takes a picture; None: of all."""
        ids = one.files.ids()
        if ids is None:
            return None
        order = [*self.named(one.files.folder), *one.files.numbers_of(names)]
        if one.stored is not None and not one.stored.knows(ids):
            one.stored = None  # whose samples go by other ids
            return None
        if one.stored is not None:
            one.stored.ask(epoch, ids, order)
            return frozenset()
        known = set(one.files.known().tolist())
        wanted = range(len(ids)) if one.files.all_fit else dict.fromkeys(order)
        lacking = [index for index in wanted if index not in known]
        size = one.files.size
        usual = size // len(known) if len(known) else _USUAL
        most = max(0, one.budget - size) // max(1, usual)
        return frozenset(ids[index] for index in lacking[:most])

    def _images(self, runner: dl.IRunner, one: OfLoader) -> Any:
        """Return the images of the batch, [N, ...] or a list of N; None where there are none."""
        images = runner.batch.get(self.image_key)
        try:
            check_images(self.image_key, images)
        except UsageError:
            if self.required:
                raise
            # Samples of other kinds have no picture, and that is no fault.
            one.wanted, one.has_no_images = frozenset(), True
            return None
        return check_images(self.image_key, images, self.style)


def _shares(budget: int, lengths: Mapping[str, int | None]) -> dict[str, int]:
    """Return how many bytes each loader has, by its number of samples; the same for all where one is not known."""
    known = [length for length in lengths.values() if length is not None]
    total = sum(known)
    if len(known) < len(lengths) or not total:
        return {key: budget // len(lengths) for key in lengths}
    return {key: budget * (length or 0) // total for key, length in lengths.items()}


def _length(loader: Any) -> int | None:
    try:
        return len(loader.dataset)
    except (TypeError, AttributeError, NotImplementedError):
        return None


def _shapes(images: Any) -> set[tuple[int, int]]:
    """Return height and width of images, [N, C, H, W] or a list of [C, H, W]."""
    found = (
        [images.shape] if isinstance(images, Tensor) else [one.shape for one in images or () if hasattr(one, "shape")]
    )
    return {(int(shape[-2]), int(shape[-1])) for shape in found if len(shape) > 2}


def _waited(plan: "Future[frozenset[str] | None]", writer: Writer) -> frozenset[str] | None:
    while True:
        try:
            return plan.result(_PATIENCE)
        except NotYet:
            writer.flush()  # which raises the error of the thread, that would never answer then


def _known_ids(runner: dl.IRunner, id_key: str, ids: Any) -> list[Any]:
    """Return the ids of a batch on the host; [] where they are on a device alone."""
    if not isinstance(ids, Tensor):
        return list(ids)
    given = host_targets(runner).arrays(id_key)
    if given is None:
        return ids.reshape(-1).tolist() if ids.device.type == "cpu" else []
    return list(given.reshape(-1).tolist())


def _chosen(images: Any, ids: Sequence[Any], wanted: frozenset[str]) -> tuple[list[Any], list[Any]]:
    rows = [row for row, name in enumerate(ids) if str(name) in wanted]
    return [images[row] for row in rows], [ids[row] for row in rows]


def _over_ranks(encoder: Encoder) -> list[Encoded]:
    """Return the pictures of all ranks on the main process; none where they are too many. A collective."""
    mine = encoder.finish()
    told = gather_objects((encoder.size, encoder.is_over, len(mine)))
    if any(is_over for _, is_over, _ in told) or sum(size for size, _, _ in told) > encoder.most:
        return []
    found: list[Encoded] = []
    for first in range(0, max(count for _, _, count in told), _AT_ONCE):
        sent = gather_to_main_rank(mine[first : first + _AT_ONCE])
        found += [one for part in sent or [] for one in part]
    return found


def _write(one: OfLoader, epoch: int, found: Iterable[Encoded], takes_all: bool) -> None:
    from .thumbnail_files import Thumbnail

    found = list(found)
    numbers = one.files.numbers_of([picture.name for picture in found], missing=-1)
    known = {kind: set(one.files.known(kind).tolist()) for kind in {picture.kind for picture in found}}
    rows: dict[tuple[int, str], Thumbnail] = {}
    for index, picture in zip(numbers, found, strict=True):
        # A sample that an epoch shows twice has the first of its pictures.
        if index >= 0 and index not in known[picture.kind]:
            rows.setdefault((index, picture.kind), Thumbnail(index, picture.kind, picture.jpeg))
    one.files.add(epoch, [rows[key] for key in sorted(rows)], all_fit=takes_all)


def _pictures_by(runner: dl.IRunner, loader: str) -> list[SamplePicture]:
    """Return the pictures of single samples that callbacks have made."""
    asked = [getattr(callback, "sample_pictures", None) for callback in runner.callbacks.values()]
    return [picture for ask in asked if callable(ask) for picture in ask(loader)]


def _draw(one: OfLoader, epoch: int, found: Sequence[SamplePicture]) -> None:
    """Write the pictures that callbacks have made, anew where the last ones are old, while there is room."""
    from .thumbnail_files import Thumbnail

    numbers = one.files.numbers_of([picture.name for picture in found], missing=-1)
    before = {kind: one.files.epochs(kind) for kind in {picture.kind for picture in found}}
    rows: dict[tuple[int, str], Thumbnail] = {}
    size = one.files.size
    for number, picture in zip(numbers, found, strict=True):
        last = before[picture.kind].get(number, 0)
        # Ever more seldom, so that a long run keeps few of them.
        is_due = not last or epoch >= last + max(1, last // _RENEWED)
        if number < 0 or not is_due or (number, picture.kind) in rows or size > one.budget:
            continue
        drawn = picture.draw()
        if drawn is not None:
            rows[number, picture.kind] = Thumbnail(number, picture.kind, encode(drawn))
            size += len(rows[number, picture.kind].jpeg)
    one.files.add(epoch, [rows[key] for key in sorted(rows)])


def _named_by(runner: dl.IRunner, loader: str) -> list[str]:
    """Return the ids of the samples that callbacks name, each once."""
    asked = [getattr(callback, "named_samples", None) for callback in runner.callbacks.values()]
    return list(dict.fromkeys(str(name) for ask in asked if callable(ask) for name in ask(loader)))
