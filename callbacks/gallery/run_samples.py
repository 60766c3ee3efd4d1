"""``RunSamples``: what the files of a run hold of its samples."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, Any, TypeVar

import numpy as np
import pyarrow as pa

from ..errors import UsageError, listing
from .bounded_cache import BoundedCache
from .curves import CURVES, curves_of, some_epochs
from .parquet_columns import WrongFileError, count_rows, read_class, read_numbers, read_row, read_texts, reading
from .run_folder import NotThereError, RunFolder, Signature
from .suspects import told_suspects
from .table import NUMBERS, RIGHT, UNKNOWN, UNKNOWN_FLAG, WRONG, Table, among
from .thumbnails import Thumbnails

SAMPLES = "samples"
ABOUT, IDS, RUNNING, GROUPS_FILE = "about.json", "ids.parquet", "running.parquet", "groups.parquet"
FINDINGS, SUSPECTS = "findings.json", "suspects.csv"
MOST_BYTES = 1 << 30  # of what is kept of the files of all runs

_EPOCH_FILE = re.compile(r"epoch-(\d{6,})\.parquet")
_MEANS, _CLASSES = "mean_probability", "mean_classes"
_OF_EPOCH = ("index", "target", "prediction", "wrong_labels", "boxes", "found", "missed", "false", *NUMBERS[:6])
# What columns of files are called in a table.
_OF_RUN = {
    "epochs": "seen", "aum": "aum", "el2n": "mean_el2n", "target_probability": "confidence",
    "variability": "variability", "learned": "learned", "forgotten": "forgetting",
}  # fmt: skip
_OF_GROUPS = (
    "suspect_rank", "suspect_kind", "suspect_label", "likely", "suspect_score", "stuck", "newly_wrong", "forgotten",
    "unstable", "easy",
)  # fmt: skip
_TRIES = 5  # while the run replaces files

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class LoaderInfo:
    """What there is of a loader.

    Attributes:
        loader: its key.
        task: as ``SampleHistory`` takes it; None: not known.
        classes: their names; None: not known.
        count: of its samples.
        epochs: numbers of those that there are.
        thumbnails: how many there are.
        findings: names of rules that name one of its samples, sorted.
        error: why its files cannot be read; empty: they can.
    """

    loader: str
    task: str | None = None
    classes: tuple[str, ...] | None = None
    count: int = 0
    epochs: tuple[int, ...] = ()
    thumbnails: int = 0
    findings: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True)
class _About:
    folder: str
    loader: str
    task: str | None = None
    classes: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Arrays:
    values: tuple[np.ndarray, ...]

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.values)


@dataclass(frozen=True)
class _Columns:
    values: dict[str, np.ndarray]

    @property
    def nbytes(self) -> int:
        return sum(values.nbytes for values in self.values.values())


class RunSamples:
    """Reads the samples of a run, also while it writes them.

    Files are read when they are asked for, and kept as long as they stay the same. Nothing outside the folder of the
    run is read.

    Args:
        path: folder of the run.
        name: of the run; None: that of its folder.
        cache: what is kept, of several runs; None: of this one.
    """

    def __init__(self, path: str | os.PathLike[str], name: str | None = None, cache: BoundedCache | None = None):
        self.folder = RunFolder(path)
        self.name = self.folder.path.name if name is None else name
        self.cache = BoundedCache(MOST_BYTES) if cache is None else cache
        self._findings_read: tuple[Signature | None, Any] = (None, None)

    def loaders(self) -> list[LoaderInfo]:
        """Return what there is of each loader, by name."""
        return [self._info(about) for _, about in sorted(self._abouts().items())]

    def table(self, loader: str, epoch: int | None = None) -> Table:
        """Return the samples of a loader that were seen in an epoch.

        Args:
            loader: its key.
            epoch: its number; None: the last one.

        Raises:
            NotThereError: there is no such loader or epoch.
            WrongFileError: a file is not what the run writes.
        """
        about = self._about(loader)
        return self._steadily(lambda: self._table(about, epoch))

    def curves(self, loader: str, indices: Sequence[int]) -> dict[str, Any]:
        """Return what became of some samples over the epochs.

        Args:
            loader: its key.
            indices: numbers of the samples.

        Returns:
            ``epochs``, and for each of ``loss``, ``target_probability``, ``prediction`` and ``score`` that the run has
            a list per sample with a value per epoch, None where it was not seen or it is not known. Of loaders with
            very many samples some epochs are left out, evenly; ``epochs_left_out`` is how many.

        Raises:
            NotThereError: there is no such loader.
            WrongFileError: a file is not what the run writes.
        """
        about = self._about(loader)
        return self._steadily(lambda: self._curves(about, np.asarray(indices, np.int64).reshape(-1)))

    def sample(self, loader: str, index: int) -> dict[str, Any]:
        """Return what is known of one sample beside its row in a table.

        Args:
            loader: its key.
            index: its number.

        Returns:
            ``id``; ``file``, or None; ``suspects``, what is probably wrong with it, see ``suspects.told_suspects``;
            ``mean_probability`` and ``mean_classes``, or None; ``kinds`` of its thumbnails; ``curves``.

        Raises:
            NotThereError: there is no such loader or sample.
            WrongFileError: a file is not what the run writes.
        """
        about = self._about(loader)
        return self._steadily(lambda: self._sample(about, index))

    def thumbnail(self, loader: str, index: int, kind: str = "image") -> bytes | None:
        """Return a thumbnail of a sample as JPEG; None: there is none.

        Args:
            loader: its key.
            index: its number.
            kind: ``image``, ``drawn`` or ``grad_cam``.

        Raises:
            NotThereError: there is no such loader.
            WrongFileError: a file is not what the run writes.
        """
        about = self._about(loader)
        return self._steadily(lambda: self._thumbnails(about).get(index, kind))

    def known_ids(self, loader: str, ids: Iterable[str]) -> set[str]:
        """Return which ids are those of samples of a loader.

        Raises:
            NotThereError: there is no such loader.
            WrongFileError: a file is not what the run writes.
        """
        known = self._ids(self._about(loader))
        return set(known.filter(among(known, ids)).to_pylist())

    def _info(self, about: _About) -> LoaderInfo:
        try:
            count = self._steadily(lambda: self._count(about))
            thumbnails = self._steadily(lambda: self._thumbnails(about).count)
            rules = {rule for rule, ids in self._findings(about) or () if ids}
        except UsageError as error:
            return LoaderInfo(about.loader, about.task, about.classes, error=str(error))
        epochs = tuple(self._epochs(about))
        return LoaderInfo(about.loader, about.task, about.classes, count, epochs, thumbnails, tuple(sorted(rules)))

    def _count(self, about: _About) -> int:
        def read() -> _Arrays:
            return _Arrays((np.array([self._read(about, IDS, count_rows)]),))

        key = ("count", self.folder.path, about.folder)
        return int(self.cache.get(key, self._signatures(about, IDS), read).values[0][0])

    def _abouts(self) -> dict[str, _About]:
        """Return the loaders by name."""
        found: dict[str, _About] = {}
        for folder in self.folder.folders(SAMPLES):
            if not folder.startswith(".") and self.folder.signature(SAMPLES, folder, IDS) is not None:
                about = self._read_about(folder)
                # Two with the same name are told apart by their folders.
                found[folder if about.loader in found else about.loader] = about
        return {name: _About(it.folder, name, it.task, it.classes) for name, it in found.items()}

    def _about(self, loader: str) -> _About:
        found = self._abouts()
        if loader not in found:
            raise NotThereError(f"the run has no samples of loader {loader!r}; there is: {listing(found)}.")
        return found[loader]

    def _read_about(self, folder: str) -> _About:
        written = self._json(SAMPLES, folder, ABOUT)
        if not isinstance(written, dict):
            return _About(folder, folder)
        names, task, loader = (written.get(key) for key in ("class_names", "task", "loader"))
        classes = tuple(map(str, names)) if isinstance(names, list) else None
        return _About(folder, str(loader or folder), task if isinstance(task, str) else None, classes)

    def _json(self, *parts: str) -> Any:
        try:
            with self.folder.open(*parts) as file:
                return json.load(file)
        except (NotThereError, ValueError, RecursionError):
            return None

    def _epochs(self, about: _About) -> dict[int, str]:
        """Return the names of the files of epochs by number, in their order."""
        names = map(_EPOCH_FILE.fullmatch, self.folder.files(SAMPLES, about.folder))
        return dict(sorted((int(name[1]), name[0]) for name in names if name))

    def _read(self, about: _About, name: str, read: Callable[[IO[bytes]], _Value]) -> _Value:
        with self.folder.open(SAMPLES, about.folder, name) as file, reading(f"{SAMPLES}/{about.folder}/{name}"):
            return read(file)

    def _steadily(self, read: Callable[[], _Value]) -> _Value:
        """Return what ``read`` returns, which may find files that belong together at different moments of the run."""
        for _ in range(_TRIES - 1):
            try:
                return read()
            except (NotThereError, WrongFileError):
                continue
        return read()

    def _signatures(self, about: _About, *names: str) -> list[Signature | None]:
        return [self.folder.signature(SAMPLES, about.folder, name) for name in names]

    def _table(self, about: _About, epoch: int | None) -> Table:
        epochs = self._epochs(about)
        if not epochs or (epoch is not None and epoch not in epochs):
            there = f"there is: {', '.join(map(str, epochs))}" if epochs else "there is none yet"
            raise NotThereError(f"the samples of {about.loader!r} have no epoch {epoch or 1}; {there}.")
        number = max(epochs) if epoch is None else epoch
        pictures = self._thumbnails(about)
        files = self._signatures(about, epochs[number], IDS, RUNNING, GROUPS_FILE)
        version = (about, tuple(epochs), files, self.folder.signature(FINDINGS), pictures.version)
        key = ("table", self.folder.path, about.folder, number)
        return self.cache.get(key, version, lambda: self._made(about, epochs, number, pictures))

    def _made(self, about: _About, epochs: dict[int, str], number: int, pictures: Thumbnails) -> Table:
        # The epoch first, then what may have grown since: there is an id for each of its samples.
        columns = self._read(about, epochs[number], partial(read_numbers, wanted={it: it for it in _OF_EPOCH}))
        ids = self._ids(about)
        index = columns["index"] if "index" in columns else np.full(1, UNKNOWN, np.int32)
        if len(index) and (index[0] < 0 or index[-1] >= len(ids) or (np.diff(index) <= 0).any()):
            raise WrongFileError(f"{epochs[number]} has samples that {IDS} does not have, or twice, or in disorder.")
        correct = _correct(columns)
        columns |= {} if correct is None else {"correct": correct}
        columns |= self._by_sample(about, RUNNING, _OF_RUN, index, len(ids))
        columns |= self._by_sample(about, GROUPS_FILE, {name: name for name in _OF_GROUPS}, index, len(ids))
        if "suspect_rank" in columns:
            columns["suspect"] = (columns["suspect_rank"] > 0).astype(np.uint8)
            # A run of a version that has none knows of labels alone, the first kind.
            columns.setdefault("suspect_kind", np.where(columns["suspect_rank"] > 0, 0, UNKNOWN).astype(np.int32))
        columns["pictured"] = pictures.has(index).astype(np.uint8)
        whole = len(index) == len(ids)
        table = Table(
            self.name, about.loader, about.task, about.classes, number, tuple(epochs),
            ids if whole else ids.take(pa.array(index)), columns,
            class_probability=partial(self._class_probability, about, index),
        )  # fmt: skip
        return self._with_findings(about, table)

    def _ids(self, about: _About) -> pa.Array:
        version = self._signatures(about, IDS)
        key = ("ids", self.folder.path, about.folder)
        return self.cache.get(key, version, lambda: self._read(about, IDS, partial(read_texts, name="id")))

    def _by_sample(
        self, about: _About, name: str, wanted: dict[str, str], index: np.ndarray, count: int
    ) -> dict[str, np.ndarray]:
        """Return columns of a file with a row per sample, for some samples; none where it is not there."""

        def read() -> _Columns:
            columns = self._read(about, name, partial(read_numbers, wanted={"index": "index", **wanted}))
            if "index" not in columns:
                raise WrongFileError(f"{name} has no column 'index'.")
            where = columns.pop("index")
            keep = (where >= 0) & (where < count)
            return _Columns({of: _spread(values[keep], where[keep], count) for of, values in columns.items()})

        try:
            # Of all epochs alike, so that the tables of several share them.
            found = self.cache.get(
                ("by sample", self.folder.path, about.folder, name), (self._signatures(about, name), count), read
            )
        except NotThereError:
            return {}
        is_whole = len(index) == count
        return {of: values if is_whole else values[index] for of, values in found.values.items()}

    def _class_probability(self, about: _About, index: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
        version = self._signatures(about, RUNNING)
        key = ("class", self.folder.path, about.folder, number)
        read = partial(read_class, number=number, means=_MEANS, classes=_CLASSES)
        found = self.cache.get(key, version, lambda: _Arrays(self._read(about, RUNNING, read)))
        inside = index < len(found.values[0])
        known, most = (np.full(len(index), fill, np.float32) for fill in (np.nan, 1))
        known[inside], most[inside] = (values[index[inside]] for values in found.values)
        return known, most

    def _findings(self, about: _About) -> list[tuple[str, list[str]]] | None:
        """Return rules and the ids of samples that they name; None: the run has not looked for findings."""
        signature = self.folder.signature(FINDINGS)
        if signature is None:
            return None
        if self._findings_read[0] != signature:
            self._findings_read = signature, self._json(FINDINGS)
        written = self._findings_read[1]
        if not isinstance(written, list):
            return None
        return [(str(one["rule"]), ids) for one in written if (ids := _named_samples(one, about.loader))]

    def _with_findings(self, about: _About, table: Table) -> Table:
        named = self._findings(about)
        if named is None:
            return table
        found: dict[int, tuple[str, ...]] = {}
        for rule, ids in named:
            for row in np.flatnonzero(table.has_id(ids)).tolist():
                found[row] = tuple(dict.fromkeys((*found.get(row, ()), rule)))
        return replace(table, findings=found)

    def _curves(self, about: _About, indices: np.ndarray) -> dict[str, Any]:
        epochs = self._epochs(about)
        shown = some_epochs(epochs, self._count(about))
        found = curves_of(shown, indices, lambda name: self._of_epoch(about, name).values)
        return found | {"epochs_left_out": len(epochs) - len(shown)}

    def _of_epoch(self, about: _About, name: str) -> _Arrays:
        """Return the numbers of samples in an epoch, and what curves show of them; of what is not there, no value."""

        def read(file: IO[bytes]) -> _Arrays:
            columns = read_numbers(file, {it: it for it in ("index", *CURVES)})
            return _Arrays((columns["index"], *(columns.get(of, np.zeros(0, np.float32)) for of in CURVES)))

        version = self._signatures(about, name)
        key = ("curves", self.folder.path, about.folder, name)
        return self.cache.get(key, version, lambda: self._read(about, name, read))

    def _sample(self, about: _About, index: int) -> dict[str, Any]:
        ids = self._ids(about)
        if not 0 <= index < len(ids):
            raise NotThereError(f"the samples of {about.loader!r} have numbers 0 to {len(ids) - 1}, got {index}.")
        name = ids[index].as_py()
        means: dict[str, Any] = {_MEANS: None, _CLASSES: None}
        if self._signatures(about, RUNNING) != [None]:
            means = self._read(about, RUNNING, partial(read_row, row=index, names=(_MEANS, _CLASSES)))
        told = self._suspects(about, name)
        return {
            "id": name, "file": next((row.get("file") for row in told), None) or None, "suspects": told_suspects(told),
            _MEANS: _plain(means[_MEANS]), _CLASSES: means[_CLASSES],
            "kinds": self._thumbnails(about).kinds(index), "curves": self._curves(about, np.array([index])),
        }  # fmt: skip

    def _suspects(self, about: _About, sample_id: str) -> list[dict[str, Any]]:
        """Return the rows of the table of suspects on a sample."""
        try:
            with self.folder.open("results", SUSPECTS) as file:
                rows = csv.DictReader(io.TextIOWrapper(file, "utf-8", "replace", newline=""))
                return [row for row in rows if (row.get("loader"), row.get("sample_id")) == (about.loader, sample_id)]
        except (NotThereError, csv.Error):
            return []

    def _thumbnails(self, about: _About) -> Thumbnails:
        return Thumbnails.of(self.folder, (SAMPLES, about.folder), self.cache)


def _correct(columns: dict[str, np.ndarray]) -> np.ndarray | None:
    """Return which samples are right, [n], uint8; None: the task does not tell."""
    if "wrong_labels" in columns:
        wrong = columns["wrong_labels"]
        return np.where(wrong == UNKNOWN, UNKNOWN_FLAG, np.where(wrong == 0, RIGHT, WRONG)).astype(np.uint8)
    if not {"target", "prediction"} <= columns.keys():
        return None
    target, prediction = columns["target"], columns["prediction"]
    known = (target >= 0) & (prediction >= 0)
    return np.where(known, np.where(target == prediction, RIGHT, WRONG), UNKNOWN_FLAG).astype(np.uint8)


def _spread(values: np.ndarray, where: np.ndarray, count: int) -> np.ndarray:
    """Return values at their places among ``count``, the others unknown."""
    unknown = {np.uint8: UNKNOWN_FLAG, np.int32: UNKNOWN}.get(values.dtype.type, np.nan)
    spread = np.full(count, unknown, values.dtype)
    spread[where] = values
    return spread


def _named_samples(finding: Any, loader: str) -> list[str]:
    """Return the ids that a finding names of a loader."""
    where = finding.get("where") if isinstance(finding, dict) and "rule" in finding else None
    if not isinstance(where, dict) or not isinstance(where.get("samples"), list):
        return []
    loaders = where.get("loader")
    is_of_it = loaders is None or loader in (loaders, *str(loaders).split(", "))
    return [str(one) for one in where["samples"]] if is_of_it else []


def _plain(values: Iterable[float | None] | None) -> list[float | None] | None:
    return None if values is None else [one if one is not None and np.isfinite(one) else None for one in values]
