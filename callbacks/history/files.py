"""The Parquet files of a loader's samples: ids once per run, a file per epoch, and running values."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..measures.sample_history import COLUMNS_OF, WHOLE
from ..support.atomic_files import half_written, replacing
from .collected import SampleRows
from .running import EPOCH_NUMBERS, NEVER, RunningValues, Seen

ABOUT, IDS, RUNNING = "about.json", "ids.parquet", "running.parquet"
BEFORE, NEXT = ".running-before.parquet", ".running-next.parquet"
NUMBERS = COLUMNS_OF["multiclass"]  # the columns of an epoch's rows, of samples of one class
_MEANS, _CLASSES = "mean_probability", "mean_classes"
_RUNNING = tuple(field.name for field in fields(RunningValues) if field.name not in (_MEANS, _CLASSES))
_ALWAYS = ("epochs", "forgotten", "correct")  # which have a value for a sample that was never seen with a class
_BLOCK = 65_536  # samples whose running values are in memory at once
_EPOCH = b"epoch"  # in the metadata of the running values: the last epoch in them
_KEPT_BITS = np.uint32(0xFFFFFF00)  # 16 binary digits of a float32, which pack into three bytes


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
            last two epochs, they are counted again from the files, and the means of classes stay unknown. Samples
            that have not one class each have no running values.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_about(rows.kind)
        index, first = self._find(rows.ids)
        names = COLUMNS_OF[rows.kind]
        numbers = {name: rows.numbers[first, place] for place, name in enumerate(names)}
        seen = Seen(index, numbers, rows.shares[first], rows.numbers[first, len(names) :].astype(np.int32))
        is_whole = "target" not in numbers or self._update_running(epoch, seen)
        # Last: a run that is killed before counts this epoch again.
        self._write_epoch(epoch, index, numbers)
        return is_whole

    def _update_running(self, epoch: int, seen: Seen) -> bool:
        """Add an epoch to the running values; return whether they hold all they can."""
        former = self._epochs()
        is_whole = not former or _epoch_of(self.folder / RUNNING) == former[-1][0]
        blocks = self._blocks(seen) if is_whole else iter([self._counted_again(former)])
        self._write_running(epoch, _updated(blocks, epoch, seen), names_classes=seen.best.shape[1] > 0)
        return is_whole

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

    def _blocks(self, seen: Seen) -> Iterator[RunningValues]:
        """Yield the running values of all samples, block by block; those of new ones are fresh."""
        classes, best = seen.widths
        path, count = self.folder / RUNNING, 0
        if path.exists():
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_BLOCK):
                    count += len(batch)
                    yield _values(batch, classes, best)
        if (fresh := len(self._ids()) - count) > 0:
            yield RunningValues.fresh(fresh, classes, best)

    def _counted_again(self, former: Iterable[tuple[int, Path]]) -> RunningValues:
        values = RunningValues.fresh(len(self._ids()), 0)
        for epoch, path in former:
            table = pq.read_table(path)
            numbers = {name: table[name].to_numpy() for name in NUMBERS}
            values.add(epoch, Seen(table["index"].to_numpy(), numbers))
        return values

    def _write_epoch(self, epoch: int, index: np.ndarray, numbers: Mapping[str, np.ndarray]) -> None:
        columns = {"index": pa.array(index.astype(np.int32))}
        for name, values in numbers.items():
            if name in WHOLE:
                columns[name] = pa.array(np.nan_to_num(values).astype(np.int32), mask=np.isnan(values))
            else:
                columns[name] = pa.array(_rounded(values), from_pandas=True)
        split = {name: "BYTE_STREAM_SPLIT" for name in numbers if name not in WHOLE}
        encodings = {"index": "DELTA_BINARY_PACKED", **split}
        table = pa.table(columns)
        _write(
            self.folder / f"epoch-{epoch:06d}.parquet",
            [table],
            encodings,
            dictionary=[name for name in WHOLE if name in numbers],
        )

    def _write_running(self, epoch: int, blocks: Iterable[RunningValues], *, names_classes: bool) -> None:
        following = self.folder / NEXT
        _write(
            following, _tables(epoch, blocks, names_classes=names_classes), encodings={"index": "DELTA_BINARY_PACKED"}
        )
        # Only now, as the blocks were read from it.
        if (self.folder / RUNNING).exists():
            os.replace(self.folder / RUNNING, self.folder / BEFORE)
        os.replace(following, self.folder / RUNNING)


def _updated(blocks: Iterable[RunningValues], epoch: int, seen: Seen) -> Iterator[RunningValues]:
    """Yield blocks with an epoch added, whose samples have ascending numbers."""
    first = 0
    for block in blocks:
        low, high = np.searchsorted(seen.index, [first, first + len(block)])
        block.add(epoch, seen.part(low, high, first))
        first += len(block)
        yield block


def _tables(epoch: int, blocks: Iterable[RunningValues], *, names_classes: bool) -> Iterator[pa.Table]:
    first = 0
    for block in blocks:
        unseen = block.epochs == 0
        columns = {"index": pa.array(np.arange(first, first + len(block), dtype=np.int32))}
        for name in _RUNNING:
            values = getattr(block, name)
            hidden = values == NEVER if name in EPOCH_NUMBERS else unseen if name not in _ALWAYS else None
            columns[name] = pa.array(values, mask=hidden)
        told = (block.epochs > 0)[:, None] & (np.ones_like(block.mean_probability, bool))
        if names_classes:
            told = told & (block.mean_classes >= 0) if block.mean_classes.shape[1] else told
            columns[_CLASSES] = _lists(block.mean_classes, told, pa.int32())
        columns[_MEANS] = _lists(block.mean_probability, told, pa.float32())
        first += len(block)
        yield pa.table(columns).replace_schema_metadata({_EPOCH: str(epoch)})


def _lists(values: np.ndarray, told: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Return those of the values, [n, C], that are told, as one list per row; null for rows where none is."""
    if not values.shape[1]:
        return pa.nulls(len(values), pa.list_(kind))
    lengths = told.sum(axis=1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values[told], kind), mask=pa.array(lengths == 0))


def _values(batch: pa.RecordBatch, classes: int, best: int) -> RunningValues:
    """Return the running values that ``_tables`` wrote; means of classes only if they are of all epochs."""
    columns = {name: np.array(batch[name].fill_null(pa.scalar(False).cast(batch[name].type))) for name in _RUNNING}
    fresh = RunningValues.fresh(len(batch), classes, best)
    of_classes = {_MEANS: fresh.mean_probability, _CLASSES: fresh.mean_classes}
    known = np.array(batch[_MEANS].is_valid())
    names = (_MEANS, _CLASSES) if best else (_MEANS,)
    lengths = pc.fill_null(pc.list_value_length(batch[_MEANS]), 0).to_numpy(zero_copy_only=False)
    fits = lengths <= fresh.mean_probability.shape[1] if best else lengths == known * classes
    if (
        not classes
        or (known != (columns["epochs"] > 0)).any()
        or not fits.all()
        or not {*names} <= {*batch.schema.names}
    ):
        unknown = {name: values[:, :0] for name, values in of_classes.items()}
        return RunningValues(**columns, **unknown)
    told = np.arange(fresh.mean_probability.shape[1]) < lengths[:, None]
    for name in names:
        of_classes[name][told] = np.array(batch[name].flatten())
    return RunningValues(**columns, **of_classes)


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


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return float32 values with 16 binary digits, to the nearest."""
    bits = values.astype(np.float32).view(np.uint32)
    # Half of the last digit that stays; a number that is not finite has no digits to round.
    rounded = np.where(np.isfinite(values), bits + np.uint32(0x80), bits) & _KEPT_BITS
    return rounded.view(np.float32)


def _epoch_of(path: Path) -> int:
    """Return the last epoch in a file of running values; 0: there is none, or one of a version with other columns."""
    schema = pq.read_schema(path) if path.exists() else None
    return 0 if schema is None or not {*_RUNNING} <= {*schema.names} else int(schema.metadata[_EPOCH])
