"""Columns of Parquet files as NumPy arrays, with null as one value of their kind."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UsageError
from ..history.suspects import SUSPECT_KINDS
from .table import FLAGS, INTEGERS, UNKNOWN, UNKNOWN_FLAG


class WrongFileError(UsageError):
    """A file is not what it should be."""


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Turn what pyarrow says of a file that is not as it should be into one line.

    Raises:
        WrongFileError: the block met something else than the columns that it wants.
    """
    try:
        yield
    except (pa.ArrowException, ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        if isinstance(error, UsageError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise WrongFileError(f"{name} cannot be read as a file of samples: {reason}") from error


def count_rows(file: IO[bytes]) -> int:
    """Return the number of rows of a file."""
    return int(pq.ParquetFile(file).metadata.num_rows)


def read_numbers(file: IO[bytes], wanted: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Return columns of numbers that are in a file.

    Args:
        file: Parquet.
        wanted: names of columns, which may be missing, and what they are called in a ``Table``, which decides the type.

    Returns:
        [n] each, by their name in a ``Table``.
    """
    parquet = pq.ParquetFile(file)
    there = [name for name in wanted if name in parquet.schema_arrow.names]
    table = parquet.read(columns=there)
    return {wanted[name]: as_numbers(table[name], wanted[name]) for name in there}


def as_numbers(column: pa.ChunkedArray, name: str) -> np.ndarray:
    """Return a column as an array, [n], of the type that a ``Table`` has under a name."""
    if name == "suspect_kind":
        # Of a kind that a later version writes nothing is known.
        codes = pc.index_in(column.cast(pa.string()), value_set=pa.array(SUSPECT_KINDS))
        return np.asarray(codes.fill_null(UNKNOWN).to_numpy(), np.int32)
    if name in FLAGS:
        whole = column.cast(pa.uint8()).fill_null(UNKNOWN_FLAG).to_numpy()
        return np.asarray(whole, np.uint8)
    if name in INTEGERS:
        whole = column.cast(pa.int32()).fill_null(UNKNOWN).to_numpy()
        return np.asarray(whole, np.int32)
    return np.asarray(column.cast(pa.float32(), safe=False).to_numpy(), np.float32)


def read_texts(file: IO[bytes], name: str) -> pa.Array:
    """Return a column of texts, [n]."""
    column = pq.ParquetFile(file).read(columns=[name])[name].cast(pa.large_string())
    whole = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], pa.large_string())
    whole.validate(full=True)  # that it is UTF-8
    return whole


def read_row(file: IO[bytes], row: int, names: Collection[str]) -> dict[str, object]:
    """Return values of one row; of those columns that are not there, None."""
    parquet = pq.ParquetFile(file)
    there = [name for name in names if name in parquet.schema_arrow.names]
    for number in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(number).num_rows
        if row < rows:
            found = parquet.read_row_group(number, columns=there).slice(row, 1).to_pylist()[0]
            return {name: found.get(name) for name in names}
        row -= rows
    return dict.fromkeys(names)


def read_class(file: IO[bytes], number: int, means: str, classes: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean probability of a class, and the largest that it can be where it is not known.

    Args:
        file: Parquet; its rows have a list with a number per class in column ``means``, or, if there is a column
            ``classes``, numbers of a few classes there, the likeliest ones, and a mean for each of them.
        number: of the class.
        means: name of that column.
        classes: name of the other one.

    Returns:
        [n], float32, NaN where it is not known; and [n], float32.

    Raises:
        UsageError: there is no class of that number.
    """
    parquet = pq.ParquetFile(file)
    is_listed = classes in parquet.schema_arrow.names
    names = [means, classes] if is_listed else [means]
    known, most = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for batch in parquet.iter_batches(65_536, columns=names):
        values, bound = _of_listed(batch, number, means, classes) if is_listed else _of_all(batch[means], number)
        known.append(values)
        most.append(bound)
    return np.concatenate(known), np.concatenate(most)


def _of_all(lists: pa.Array, number: int) -> tuple[np.ndarray, np.ndarray]:
    told = lists.is_valid().to_numpy(zero_copy_only=False)
    values = np.full(len(lists), np.nan, np.float32)
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    if told.any():
        rows = flat.reshape(told.sum(), -1)
        if not 0 <= number < rows.shape[1]:
            raise UsageError(f"class must be 0 to {rows.shape[1] - 1}, got {number}.")
        values[told] = rows[:, number]
    return values, np.ones(len(lists), np.float32)


def _of_listed(batch: pa.RecordBatch, number: int, means: str, classes: str) -> tuple[np.ndarray, np.ndarray]:
    lists = batch[means]
    values, bound = np.full(len(lists), np.nan, np.float32), np.ones(len(lists), np.float32)
    rows = np.repeat(np.arange(len(lists)), lists.value_lengths().fill_null(0).to_numpy())
    flat = lists.flatten().to_numpy(zero_copy_only=False)
    of = batch[classes].flatten().to_numpy(zero_copy_only=False)
    values[rows[of == number]] = flat[of == number]
    # The smallest value may be that of the target, which is there however unlikely it is. Another class is not likelier
    # than the next one, and no more is left to it than they leave.
    order = np.lexsort((flat, rows))
    ordered = rows[order]
    second = np.arange(len(order)) - np.searchsorted(ordered, ordered) == 1
    bound[ordered[second]] = flat[order[second]]
    left = 1 - np.bincount(rows, flat, len(lists))
    return values, np.minimum(bound, np.maximum(left, 0)).astype(np.float32)
