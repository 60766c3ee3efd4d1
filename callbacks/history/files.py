"""The Parquet files of a loader's samples: ids once per run, a file per epoch, and running values."""

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..measures.sample_history import COLUMNS_OF, WHOLE
from ..support.atomic_files import half_written, replacing
from .batch_numbers import parted
from .collected import SampleRows
from .running import (
    EPOCH_NUMBERS,
    NEVER,
    ONE_CLASS,
    UNKNOWN_LABEL,
    RunningValues,
    Seen,
    epochs_of,
    rounded,
    running_columns,
)

_log = logging.getLogger("assay")

ABOUT, IDS, RUNNING = "about.json", "ids.parquet", "running.parquet"
BEFORE, NEXT = ".running-before.parquet", ".running-next.parquet"
NUMBERS = COLUMNS_OF["multiclass"]  # the columns of an epoch's rows, of samples of one class
MEANS, CLASSES, LABELS = "mean_probability", "mean_classes", "labels"  # columns of lists
RECOGNIZED = "recognized"  # in the metadata of an epoch's file
_RECOGNIZED = 0.5  # least recall of a class in a sample
_ALWAYS = ("epochs", "forgotten", "correct")  # which have a value for a sample that never counted
_BLOCK = 65_536  # samples whose running values are in memory at once
_EPOCH, _KIND = b"epoch", b"kind"  # in the metadata of the running values: the last epoch in them, and of what samples


class SampleFiles:
    """The files of a folder, of one loader. Its methods are called in a thread of the writer.

    The running values are read from the file of the epoch before, block by block, so that nothing is in memory between
    epochs, and a run that goes on needs no more than the files.

    Args:
        folder: reserved for this class.
        about: what the loader is, for ``about.json``.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any] | None = None):
        self.folder, self.about = folder, dict(about or {})

    def clean(self) -> None:
        """Remove what a killed process has left half-written; at the start, while no other thread writes there."""
        for path in half_written(self.folder):
            path.unlink()

    def go_on(self, epoch: int) -> None:
        """Remove what is later than the epoch in which a run goes on, 0 for a new run, and say if none is there before.

        A run that had no history before has learned things of which nothing is known.
        """
        self.cut(epoch)
        loader = str(self.about.get("loader", ""))
        if epoch > 1 and not self.folder.parent.is_dir() and not loader.startswith("infer"):
            _log.warning("SampleHistory of %r begins in epoch %d: the run had none in the epochs before", loader, epoch)

    def cut(self, epoch: int) -> None:
        """Remove what is later than an epoch, 0 for all of it."""
        if epoch == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            return
        later = [path for number, path in self._epochs() if number > epoch]
        running = self.folder / RUNNING
        superseded = [running] if _epoch_of(running) > epoch else []
        for path in (*later, *superseded):
            path.unlink()
        # A run may go on from the checkpoint before the last one, or have been killed between two renames.
        if not running.exists() and 0 < _epoch_of(self.folder / BEFORE) <= epoch:
            os.replace(self.folder / BEFORE, running)

    def add(self, epoch: int, rows: SampleRows) -> bool:
        """Write an epoch.

        Args:
            epoch: its number, from 1; no later one is there.
            rows: its samples in the order of the loader; of one that is there twice, the first row counts.

        Returns:
            Whether the running values hold all they can. Where a run goes on from an older checkpoint than those of the
            last two epochs, they are counted again from the files, and the means of classes and labels stay unknown.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_about(rows.kind)
        index, first = self._find(rows.ids)
        numbers = rows.columns(first)
        shares, labels = parted(rows.kind, rows.shares[first])
        seen = Seen(index, numbers, shares, rows.numbers[first, len(numbers) :].astype(np.int32), labels)
        is_whole = self._update_running(epoch, rows.kind, seen)
        # Last: a run that is killed before counts this epoch again.
        self._write_epoch(epoch, index, numbers, _recognized(rows))
        return is_whole

    def _update_running(self, epoch: int, kind: str, seen: Seen) -> bool:
        """Add an epoch to the running values; return whether they hold all they can."""
        former = self._epochs()
        is_whole = not former or _epoch_of(self.folder / RUNNING) == former[-1][0]
        blocks = self._blocks(kind, seen) if is_whole else iter([self._counted_again(kind, former)])
        self._write_running(epoch, kind, _updated(blocks, epoch, seen), names_classes=seen.best.shape[1] > 0)
        return is_whole or not seen.shares.shape[1]

    @property
    def epoch(self) -> int:
        """The last epoch in the running values; 0: there are none."""
        return _epoch_of(self.folder / RUNNING)

    def _write_about(self, kind: str) -> None:
        path = self.folder / ABOUT
        if not path.exists():
            with replacing(path) as temporary:
                temporary.write_text(json.dumps({**self.about, "task": kind}, indent=2) + "\n", encoding="utf-8")

    def _epochs(self) -> list[tuple[int, Path]]:
        """Return the files of epochs, in their order."""
        return sorted((int(path.stem.removeprefix("epoch-")), path) for path in self.folder.glob("epoch-*.parquet"))

    def _ids(self) -> pa.Array:
        path = self.folder / IDS
        known = pq.read_table(path, columns=["id"])["id"].combine_chunks() if path.exists() else None
        return pa.array([], pa.string()) if known is None else known

    def _find(self, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers of samples, [m], ascending, and the first row of each; new ones get the next numbers."""
        rows, known = pa.array(ids, pa.string()), self._ids()
        fresh = pc.unique(rows.filter(pc.is_null(pc.index_in(rows, known))))
        if len(fresh):
            known = pa.concat_arrays([known, fresh])
            table = pa.table({"index": pa.array(np.arange(len(known), dtype=np.int32)), "id": known})
            _write(self.folder / IDS, [table], encodings={"index": "DELTA_BINARY_PACKED"})
        found, first = np.unique(pc.index_in(rows, known).to_numpy(), return_index=True)
        return found, first

    def recent(self, most: int) -> list[dict[str, np.ndarray]]:
        """Return what the last epochs tell of all samples, the newest epoch last.

        Returns:
            Up to ``most`` epochs: [n] of each column, float32, by the number of the sample; NaN where it is not known.
        """
        count, found = len(self._ids()), []
        for _, path in [(number, path) for number, path in self._epochs() if number <= self.epoch][-most:]:
            table = pq.read_table(path)
            index, columns = table["index"].to_numpy(), {}
            for name in table.column_names:
                if name != "index":
                    columns[name] = np.full(count, np.nan, np.float32)
                    columns[name][index] = table[name].to_numpy()
            found.append(columns)
        return found

    def recognized(self) -> np.ndarray | None:
        """Return in which share of the samples of the last epoch with maps each class has a recall of 0.5 or more, [C].

        Samples count in which the class is true; NaN where there are none. None: it is not known.
        """
        paths = [path for number, path in self._epochs() if number <= self.epoch]
        metadata: Mapping[bytes, bytes] = pq.read_schema(paths[-1]).metadata or {} if paths else {}
        told = metadata.get(RECOGNIZED.encode())
        return None if told is None else np.array(json.loads(told), float)

    def _blocks(self, kind: str, seen: Seen) -> Iterator[RunningValues]:
        """Yield the running values of all samples, block by block; those of new ones are fresh."""
        classes, best = seen.widths
        path, count = self.folder / RUNNING, 0
        if path.exists():
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_BLOCK):
                    count += len(batch)
                    yield _values(batch, kind, classes, best)
        if (fresh := len(self._ids()) - count) > 0:
            yield RunningValues.fresh(kind, fresh, classes, best)

    def _counted_again(self, kind: str, former: Iterable[tuple[int, Path]]) -> RunningValues:
        values = RunningValues.fresh(kind, len(self._ids()), 0)
        for epoch, path in former:
            table = pq.read_table(path)
            numbers = {name: table[name].to_numpy() for name in COLUMNS_OF[kind] if name in table.column_names}
            values.add(epoch, Seen(table["index"].to_numpy(), numbers))
        return values

    def _write_epoch(
        self, epoch: int, index: np.ndarray, numbers: Mapping[str, np.ndarray], about: Mapping[str, str]
    ) -> None:
        columns = {"index": pa.array(index.astype(np.int32))}
        for name, values in numbers.items():
            if name in WHOLE:
                columns[name] = pa.array(np.nan_to_num(values).astype(np.int32), mask=np.isnan(values))
            else:
                columns[name] = pa.array(rounded(values), from_pandas=True)
        split = {name: "BYTE_STREAM_SPLIT" for name in numbers if name not in WHOLE}
        encodings = {"index": "DELTA_BINARY_PACKED", **split}
        table = pa.table(columns).replace_schema_metadata(dict(about))
        _write(
            self.folder / f"epoch-{epoch:06d}.parquet",
            [table],
            encodings,
            dictionary=[name for name in WHOLE if name in numbers],
        )

    def _write_running(self, epoch: int, kind: str, blocks: Iterable[RunningValues], *, names_classes: bool) -> None:
        following = self.folder / NEXT
        metadata = {_EPOCH: str(epoch), _KIND: kind}
        _write(following, _tables(metadata, blocks, names_classes=names_classes), {"index": "DELTA_BINARY_PACKED"})
        # Only now, as the blocks were read from it.
        if (self.folder / RUNNING).exists():
            os.replace(self.folder / RUNNING, self.folder / BEFORE)
        os.replace(following, self.folder / RUNNING)


def _recognized(rows: SampleRows) -> dict[str, str]:
    """Return what a file says of all samples with maps, see ``SampleFiles.recognized``."""
    if rows.kind != "segmentation" or not rows.shares.shape[1]:
        return {}
    is_there = np.isfinite(rows.shares)
    shares = (rows.shares >= _RECOGNIZED).sum(axis=0) / np.maximum(is_there.sum(axis=0), 1)
    told = [float(share) if known else None for share, known in zip(shares, is_there.any(axis=0), strict=True)]
    return {RECOGNIZED: json.dumps(told)}


def _updated(blocks: Iterable[RunningValues], epoch: int, seen: Seen) -> Iterator[RunningValues]:
    """Yield blocks with an epoch added, whose samples have ascending numbers."""
    first = 0
    for block in blocks:
        low, high = np.searchsorted(seen.index, [first, first + len(block)])
        block.add(epoch, seen.part(low, high, first))
        first += len(block)
        yield block


def _tables(
    metadata: Mapping[bytes, str], blocks: Iterable[RunningValues], *, names_classes: bool
) -> Iterator[pa.Table]:
    first = 0
    for block in blocks:
        columns = {"index": pa.array(np.arange(first, first + len(block), dtype=np.int32))}
        for name, values in block.columns.items():
            columns[name] = pa.array(values, mask=_hidden(name, block.columns))
        told = (block.columns["epochs"] > 0)[:, None] & (np.ones_like(block.mean_probability, bool))
        if names_classes:
            told = told & (block.mean_classes >= 0) if block.mean_classes.shape[1] else told
            columns[CLASSES] = _lists(block.mean_classes, told, pa.int32())
        if block.kind == "multilabel":
            is_there = pa.array((block.labels == 1)[told], mask=(block.labels == UNKNOWN_LABEL)[told])
            columns[LABELS] = _lists(block.labels, told, pa.bool_(), is_there)
        if block.kind in (*ONE_CLASS, "multilabel"):
            columns[MEANS] = _lists(block.mean_probability, told, pa.float32())
        first += len(block)
        yield pa.table(columns).replace_schema_metadata(dict(metadata))


def _hidden(name: str, columns: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Return where a column of running values is null; None: nowhere."""
    if name in EPOCH_NUMBERS:
        return np.asarray(columns[name] == NEVER)
    if name in (*_ALWAYS, *(epochs_of(of) for of in columns)):
        return None
    return np.asarray(columns.get(epochs_of(name), columns["epochs"]) == 0)


def _lists(values: np.ndarray, told: np.ndarray, kind: pa.DataType, flat: pa.Array | None = None) -> pa.Array:
    """Return those of the values, [n, C], that are told, as one list per row; null for rows where none is.

    ``flat`` stands in the place of these, where it is given.
    """
    if not values.shape[1]:
        return pa.nulls(len(values), pa.list_(kind))
    lengths = told.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    flat = pa.array(values[told], kind) if flat is None else flat
    return pa.ListArray.from_arrays(offsets, flat, mask=pa.array(lengths == 0))


def _values(batch: pa.RecordBatch, kind: str, classes: int, best: int) -> RunningValues:
    """Return running values, without means of classes where the file does not have them of all samples."""
    fresh = RunningValues.fresh(kind, len(batch), classes, best)
    for name, values in fresh.columns.items():
        values[:] = np.array(batch[name].fill_null(pa.scalar(False).cast(batch[name].type)))
    lists = {MEANS: fresh.mean_probability, CLASSES: fresh.mean_classes, LABELS: fresh.labels}
    lists = {name: values for name, values in lists.items() if values.shape[1]}
    is_whole = {*lists} <= {*batch.schema.names} and MEANS in lists
    if is_whole:
        known = np.array(batch[MEANS].is_valid())
        lengths = pc.fill_null(pc.list_value_length(batch[MEANS]), 0).to_numpy(zero_copy_only=False)
        width = fresh.mean_probability.shape[1]
        fits = lengths <= width if best else lengths == known * width
        is_whole = bool(fits.all() and (known == (fresh.columns["epochs"] > 0)).all())
    if not is_whole:
        unknown = (of[:, :0] for of in (fresh.mean_probability, fresh.mean_classes, fresh.labels))
        return RunningValues(kind, fresh.columns, *unknown)
    told = np.arange(width) < lengths[:, None]
    for name, values in lists.items():
        flat = batch[name].flatten()
        values[told] = np.array(flat.cast(pa.int8()).fill_null(UNKNOWN_LABEL) if name == LABELS else flat)
    return fresh


def _write(
    path: Path, tables: Iterable[pa.Table], encodings: Mapping[str, str], dictionary: Sequence[str] = ()
) -> None:
    """Write tables of one kind, of at least one, as a file that is there whole or not at all."""
    with replacing(path) as temporary, ExitStack() as stack:
        writer = None
        for table in tables:
            writer = writer or stack.enter_context(
                pq.ParquetWriter(
                    temporary,
                    table.schema,
                    compression="zstd",
                    use_dictionary=list(dictionary),
                    column_encoding=dict(encodings),
                )
            )
            writer.write_table(table)


def kind_of(path: Path) -> str:
    """Return of what kind the samples of a file of running values are."""
    metadata: Mapping[bytes, bytes] = pq.read_schema(path).metadata or {}
    return metadata.get(_KIND, b"multiclass").decode()


def _epoch_of(path: Path) -> int:
    """Return the last epoch in a file of running values; 0: there is none, or one of a version with other columns."""
    schema = pq.read_schema(path) if path.exists() else None
    if schema is None or not {*running_columns(kind_of(path))} <= {*schema.names}:
        return 0
    return int(schema.metadata[_EPOCH])
