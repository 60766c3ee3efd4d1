"""The Parquet files of a loader's thumbnails, one per epoch in which some were taken."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from threading import RLock
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...support.atomic_files import replacing

IMAGE, DRAWN, GRAD_CAM = "image", "drawn", "grad_cam"

_PREFIX = "thumbnails-"
_SCHEMA = pa.schema([("index", pa.int32()), ("kind", pa.string()), ("jpeg", pa.binary())])
_AT_ONCE = 4096  # rows of a piece in memory while a file is written
_ALL = b"all"  # in the metadata: whether all samples are to have a thumbnail


class Thumbnail(NamedTuple):
    """A small picture of a sample.

    Attributes:
        number: of the sample.
        kind: ``image``, ``drawn`` or ``grad_cam``.
        jpeg: a JPEG file.
    """

    number: int
    kind: str
    jpeg: bytes


class ThumbnailFiles:
    """The thumbnails in a folder, of one loader. Its methods may be called in any thread.

    Args:
        folder: of the loader's samples.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = RLock()

    def cut(self, epoch: int) -> None:
        """Remove what was taken after an epoch."""
        with self._lock:
            for number, path in self._files():
                if number > epoch:
                    path.unlink()

    def add(self, epoch: int, found: Iterable[Thumbnail], *, all_fit: bool = False) -> None:
        """Write thumbnails, whole or not at all; without any there is no file.

        Args:
            epoch: in which they were asked for; what was written for it before stays.
            found: of samples that have none of that kind; read piece by piece.
            all_fit: whether all samples are to have one, which later epochs go by.
        """
        with self._lock:
            rows = iter(found)
            first = next(rows, None)
            if first is None:
                return
            path = self.folder / f"{_PREFIX}{epoch:06d}.parquet"
            before = self._read(path) if path.exists() else iter(())
            all_fit = all_fit or _says_all(path)
            self.folder.mkdir(parents=True, exist_ok=True)
            schema = _SCHEMA.with_metadata({_ALL: str(int(all_fit))})
            # Pictures are packed already.
            options = {"compression": {"index": "zstd", "kind": "zstd", "jpeg": "none"}, "use_dictionary": ["kind"]}
            with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, **options) as writer:
                for piece in _pieces(chain(before, [first], rows)):
                    writer.write_table(_table(piece, schema))

    def known(self, kind: str = IMAGE) -> np.ndarray:
        """Return the numbers of the samples that have a thumbnail of a kind, ascending."""
        with self._lock:
            tables = [pq.read_table(path, columns=["index", "kind"]) for _, path in self._files()]
        of_kind = [table.filter(pc.equal(table["kind"], kind))["index"].to_numpy() for table in tables]
        return np.unique(np.concatenate([np.zeros(0, np.int32), *of_kind]))

    def epochs(self, kind: str) -> dict[int, int]:
        """Return the epoch of the last thumbnail of a kind, by number of the sample."""
        found: dict[int, int] = {}
        with self._lock:
            for epoch, path in self._files():
                table = pq.read_table(path, columns=["index", "kind"])
                of_kind = table.filter(pc.equal(table["kind"], kind))["index"].to_pylist()
                found |= dict.fromkeys(of_kind, epoch)
        return found

    def read(self, indices: Sequence[int], kind: str = IMAGE) -> dict[int, bytes]:
        """Return the newest thumbnails of some samples by their numbers, of those that have one."""
        wanted = pa.array(np.asarray(indices, dtype=np.int32))
        found: dict[int, bytes] = {}
        with self._lock:
            for _, path in self._files():
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(_AT_ONCE):
                        chosen = pc.and_(pc.is_in(batch["index"], wanted), pc.equal(batch["kind"], kind))
                        rows = batch.filter(chosen)
                        found |= dict(zip(rows["index"].to_pylist(), rows["jpeg"].to_pylist(), strict=True))
        return found

    def ids(self) -> list[str] | None:
        """Return the ids of all samples, by their numbers; None where none are known."""
        path = self.folder / "ids.parquet"
        return pq.read_table(path, columns=["id"])["id"].to_pylist() if path.exists() else None

    def numbers_of(self, names: Sequence[str], missing: int | None = None) -> list[int]:
        """Return the numbers of samples by their ids, of those that are known; others are left out, or ``missing``."""
        path = self.folder / "ids.parquet"
        if not path.exists() or not names:
            return [] if missing is None else [missing] * len(names)
        known = pq.read_table(path, columns=["id"])["id"].combine_chunks()
        found = pc.index_in(pa.array([*names], pa.string()), known).to_pylist()
        return [one for one in (missing if number is None else number for number in found) if one is not None]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        with self._lock:
            return sum(path.stat().st_size for _, path in self._files())

    @property
    def all_fit(self) -> bool:
        """Whether all samples are to have one, as far as the files say."""
        with self._lock:
            return any(_says_all(path) for _, path in self._files())

    def _files(self) -> list[tuple[int, Path]]:
        paths = self.folder.glob(f"{_PREFIX}*.parquet")
        return sorted((int(path.stem.removeprefix(_PREFIX)), path) for path in paths)

    def _read(self, path: Path) -> Iterator[Thumbnail]:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_AT_ONCE):
                yield from map(Thumbnail, *(batch[name].to_pylist() for name in _SCHEMA.names))


def _pieces(rows: Iterable[Thumbnail]) -> Iterator[list[Thumbnail]]:
    rows = iter(rows)
    while piece := list(islice(rows, _AT_ONCE)):
        yield piece


def _table(rows: Sequence[Thumbnail], schema: pa.Schema) -> pa.Table:
    return pa.table([list(column) for column in zip(*rows, strict=True)], schema=schema)


def _says_all(path: Path) -> bool:
    return path.exists() and (pq.read_schema(path).metadata or {}).get(_ALL) == b"1"
