"""The thumbnails of a loader's samples."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .bounded_cache import BoundedCache
from .parquet_columns import reading
from .run_folder import RunFolder, Signature

_FIRST, _LAST = "thumbnails-", ".parquet"
_LISTED_S = 1.0  # for which a list of files holds
_JPEG = b"\xff\xd8\xff"  # with which each begins


_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Contents:
    """Where the thumbnails of a file are: its rows by sample and kind, and the row groups' ends."""

    index: np.ndarray
    kinds: pa.Array
    ends: np.ndarray

    @property
    def nbytes(self) -> int:
        return int(self.index.nbytes + self.kinds.nbytes + self.ends.nbytes)


class Thumbnails:
    """The thumbnails in the files of a folder at one moment; of several of a sample and kind, the newest counts.

    Args:
        folder: of the run.
        parts: where the files are in it.
        files: their names, by ascending epoch, and signatures.
        cache: what is kept of them.
    """

    def __init__(
        self, folder: RunFolder, parts: Sequence[str], files: Sequence[tuple[str, Signature]], cache: BoundedCache
    ):
        self.folder, self.parts, self.cache = folder, tuple(parts), cache
        self.version = tuple(files)

    @classmethod
    def of(cls, folder: RunFolder, parts: Sequence[str], cache: BoundedCache) -> "Thumbnails":
        """Return those that are there now.

        A page asks for dozens at once. They are listed again when the folder has changed, and after a second in any
        case, as a file that is written to in its place leaves the folder as it is.
        """
        key = ("listed", folder.path, *parts)
        version = (folder.stamp(*parts), int(time.monotonic() / _LISTED_S))
        return cache.get(key, version, lambda: cls._listed(folder, parts, cache))

    @classmethod
    def _listed(cls, folder: RunFolder, parts: Sequence[str], cache: BoundedCache) -> "Thumbnails":
        names = [name for name in folder.files(*parts) if name.startswith(_FIRST) and name.endswith(_LAST)]
        signed = [(name, folder.signature(*parts, name)) for name in sorted(names, key=lambda name: (len(name), name))]
        return cls(folder, parts, [(name, signature) for name, signature in signed if signature], cache)

    @property
    def nbytes(self) -> int:
        """About the size of the list in bytes; what is in the files is counted by itself."""
        return 300 * (1 + len(self.version))

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(len(self._contents(name, signature).index) for name, signature in self.version)

    def has(self, index: np.ndarray) -> np.ndarray:
        """Return which samples have one, [n], bool."""
        found = np.zeros(len(index), bool)
        for name, signature in self.version:
            found |= np.isin(index, self._contents(name, signature).index)
        return found

    def kinds(self, index: int) -> list[str]:
        """Return of which kinds there is one of a sample, sorted."""
        found = set()
        for name, signature in self.version:
            contents = self._contents(name, signature)
            found.update(contents.kinds.take(pa.array(np.flatnonzero(contents.index == index))).to_pylist())
        return sorted(str(kind) for kind in found)

    def get(self, index: int, kind: str) -> bytes | None:
        """Return one of a sample, as JPEG; None: there is none."""
        for name, signature in reversed(self.version):
            contents = self._contents(name, signature)
            for row in reversed(np.flatnonzero(contents.index == index).tolist()):
                if contents.kinds[row].as_py() == kind:
                    return self._jpeg(name, signature, contents, row)
        return None

    def _contents(self, name: str, signature: Signature) -> _Contents:
        key = ("thumbnails", self.folder.path, *self.parts, name)
        return self.cache.get(key, signature, lambda: self._read(name, _read_contents))

    def _jpeg(self, name: str, signature: Signature, contents: _Contents, row: int) -> bytes | None:
        group = int(np.searchsorted(contents.ends, row, side="right"))
        key = ("jpeg", self.folder.path, *self.parts, name, group)
        column = self.cache.get(key, signature, lambda: self._read(name, partial(_read_group, number=group)))
        data = column[row - (int(contents.ends[group - 1]) if group else 0)].as_py()
        return data if isinstance(data, bytes) and data.startswith(_JPEG) else None

    def _read(self, name: str, read: Callable[[IO[bytes]], _Value]) -> _Value:
        with self.folder.open(*self.parts, name) as file, reading("/".join((*self.parts, name))):
            return read(file)


def _read_contents(file: IO[bytes]) -> _Contents:
    parquet = pq.ParquetFile(file)
    table = parquet.read(columns=["index", "kind"])
    sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.metadata.num_row_groups)]
    index = np.asarray(table["index"].cast(pa.int32()).fill_null(-1).to_numpy())
    return _Contents(index, table["kind"].cast(pa.string()).combine_chunks(), np.cumsum(sizes, dtype=np.int64))


def _read_group(file: IO[bytes], number: int) -> pa.ChunkedArray:
    return pq.ParquetFile(file).read_row_group(number, columns=["jpeg"])["jpeg"].cast(pa.binary())
