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
from .running import EPOCH_NUMBERS, NEVER, RunningValues

ABOUT, IDS, RUNNING = "about.json", "ids.parquet", "running.parquet"
BEFORE, NEXT = ".running-before.parquet", ".running-next.parquet"
NUMBERS = COLUMNS_OF["multiclass"]  # the columns of an epoch's rows, of samples of one class
_MEANS = "mean_probability"
_RUNNING = tuple(field.name for field in fields(RunningValues) if field.name != _MEANS)
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
        numbers = {name: rows.numbers[first, place] for place, name in enumerate(COLUMNS_OF[rows.kind])}
        is_whole = "target" not in numbers or self._update_running(epoch, index, numbers, rows.shares[first])
        # Last: a run that is killed before counts this epoch again.
        self._write_epoch(epoch, index, numbers)
        return is_whole

    def _update_running(
        self, epoch: int, index: np.ndarray, numbers: Mapping[str, np.ndarray], shares: np.ndarray
    ) -> bool:
        """Add an epoch to the running values; return whether they hold all they can."""
        former = self._epochs()
        is_whole = not former or _epoch_of(self.folder / RUNNING) == former[-1][0]
        blocks = self._blocks(shares.shape[1]) if is_whole else iter([self._counted_again(former)])
        self._write_running(epoch, _updated(blocks, epoch, index, numbers, shares))
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

    def _blocks(self, classes: int) -> Iterator[RunningValues]:
        """Yield the running values of all samples, block by block; those of new ones are fresh."""
        path, count = self.folder / RUNNING, 0
        if path.exists():
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(_BLOCK):
                    count += len(batch)
                    yield _values(batch, classes)
        if (fresh := len(self._ids()) - count) > 0:
            yield RunningValues.fresh(fresh, classes)

    def _counted_again(self, former: Iterable[tuple[int, Path]]) -> RunningValues:
        values = RunningValues.fresh(len(self._ids()), 0)
        for epoch, path in former:
            table = pq.read_table(path)
            numbers = {name: table[name].to_numpy() for name in NUMBERS}
            values.add(epoch, table["index"].to_numpy(), numbers, np.zeros((len(table), 0)))
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

    def _write_running(self, epoch: int, blocks: Iterable[RunningValues]) -> None:
        following = self.folder / NEXT
        _write(following, _tables(epoch, blocks), encodings={"index": "DELTA_BINARY_PACKED"})
        # Only now, as the blocks were read from it.
        if (self.folder / RUNNING).exists():
            os.replace(self.folder / RUNNING, self.folder / BEFORE)
        os.replace(following, self.folder / RUNNING)


def _updated(
    blocks: Iterable[RunningValues],
    epoch: int,
    index: np.ndarray,
    numbers: Mapping[str, np.ndarray],
    shares: np.ndarray,
) -> Iterator[RunningValues]:
    """Yield blocks with an epoch added, whose samples have ascending numbers."""
    first = 0
    for block in blocks:
        low, high = np.searchsorted(index, [first, first + len(block)])
        of_block = {name: values[low:high] for name, values in numbers.items()}
        block.add(epoch, index[low:high] - first, of_block, shares[low:high])
        first += len(block)
        yield block


def _tables(epoch: int, blocks: Iterable[RunningValues]) -> Iterator[pa.Table]:
    first = 0
    for block in blocks:
        unseen = block.epochs == 0
        columns = {"index": pa.array(np.arange(first, first + len(block), dtype=np.int32))}
        for name in _RUNNING:
            values = getattr(block, name)
            hidden = values == NEVER if name in EPOCH_NUMBERS else unseen if name not in _ALWAYS else None
            columns[name] = pa.array(values, mask=hidden)
        columns[_MEANS] = _lists(block.mean_probability, unseen)
        first += len(block)
        yield pa.table(columns).replace_schema_metadata({_EPOCH: str(epoch)})


def _lists(means: np.ndarray, unseen: np.ndarray) -> pa.Array:
    """Return rows of numbers, [n, C], as one list each; null for samples without, and for all where C is 0."""
    if not means.shape[1]:
        return pa.nulls(len(means), pa.list_(pa.float32()))
    offsets = np.arange(len(means) + 1, dtype=np.int32) * means.shape[1]
    return pa.ListArray.from_arrays(offsets, pa.array(means.reshape(-1)), mask=pa.array(unseen))


def _values(batch: pa.RecordBatch, classes: int) -> RunningValues:
    """Return the running values that ``_tables`` wrote; means of classes only if they are of all epochs."""
    columns = {name: np.array(batch[name].fill_null(pa.scalar(False).cast(batch[name].type))) for name in _RUNNING}
    means = np.zeros((len(batch), classes), np.float32)
    told = np.array(batch[_MEANS].is_valid())
    values = np.array(batch[_MEANS].flatten())
    if not classes or len(values) != told.sum() * classes or (told != (columns["epochs"] > 0)).any():
        return RunningValues(**columns, mean_probability=means[:, :0])
    means[told] = values.reshape(-1, classes)
    return RunningValues(**columns, mean_probability=means)


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
