"""Ask data sets, however they are wrapped, for what they tell of all samples without reading one."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from os import PathLike, fspath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Dataset, Subset, SubsetRandomSampler, TensorDataset

from ....keys import SAMPLE_ID_KEY, TARGET_KEY
from ....support.unwrap import data_sets
from ...probe.overlap_probe import OverlapProbe
from .pixels import as_array

_LABELS = ("targets", "labels", "y", "target", "_labels")
_INSIDE = ("items", "dataset", "data", "base", "base_dataset", "ds", "samples", "imgs")
_FILES = ("samples", "imgs")  # of torchvision's folders: pairs of path and class
_DEEPEST = 6
_ENDS = 16
_SPACED = 32
_MOST_READ = 50_000
_MOST_ORIGINS = 200_000  # samples of which another loader's are compared by what is known of all
_SUSPECTS = 24  # of them, which are read in both loaders


def labels_of(dataset: Any) -> NDArray[np.int64] | None:
    """Return the class number of each sample, where a data set or one that it wraps holds a list of them."""
    found = _ask(dataset, _own_labels)
    return None if found is None else np.asarray(found, dtype=np.int64)


def ids_of(dataset: Any) -> tuple[str, ...]:
    """Return the id of each sample, or the path of its image; () where a data set holds neither."""
    found = _ask(dataset, _own_ids)
    return () if found is None else tuple(map(str, found))


def length_of(part: Any) -> int | None:
    """Return the length of a data set or loader; None where it has none."""
    try:
        return len(part)
    except Exception:  # noqa: BLE001 - a data set of the user's may raise anything
        return None


def places_of(dataset: Any, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where samples stand in the data set that ``Subset`` takes them from."""
    while type(dataset) is Subset:
        index, dataset = np.asarray(dataset.indices, dtype=np.int64)[index], dataset.dataset
    return index


def reading_order(candidates: NDArray[np.int64], dataset: Any, ids: Sequence[str]) -> list[int]:
    """Return in which order to read samples: those at both ends and evenly spaced ones, and others between them.

    The others come by a hash of what they are: of two parts of one data set, those that are in both have the same
    hashes, and are read in both.
    """
    count = len(candidates)
    spaced = np.linspace(0, count - 1, min(count, _SPACED)).astype(np.int64)
    if len(ids):
        of_each = np.array([zlib.crc32(ids[index].encode()) for index in candidates.tolist()], dtype=np.uint64)
    else:
        of_each = places_of(dataset, candidates).astype(np.uint64)
    hashed = _mixed(of_each)
    drawn = np.argpartition(hashed, _MOST_READ)[:_MOST_READ] if count > _MOST_READ else np.arange(count)
    drawn = drawn[np.argsort(hashed[drawn], kind="stable")]
    ends = [place for first in range(min(_ENDS, count)) for place in (first, count - 1 - first)]
    placed = [*ends, *spaced.tolist()]
    mixed = chain.from_iterable(zip(placed, drawn.tolist(), strict=False))
    order = dict.fromkeys([*mixed, *placed, *drawn.tolist()])
    return [int(candidates[place]) for place in order]


def overlap_of(loader: Any, other: Any) -> OverlapProbe | None:
    """Return which samples of a loader seem to be those of another one; None where none are, or it is not known.

    They seem so by their ids, or by their places in data sets of one type and length, whose parts they are.
    """
    size, of_other = length_of(loader.dataset) or 0, length_of(getattr(other, "dataset", None)) or 0
    if not 0 < size <= _MOST_ORIGINS or not 0 < of_other <= _MOST_ORIGINS:
        return None
    (mine, at), (others, at_other) = _given_origins(loader), _given_origins(other)
    shared, first, second = np.intersect1d(mine, others, return_indices=True)
    if not len(shared):
        return None
    shown = np.linspace(0, len(shared) - 1, min(len(shared), _SUSPECTS)).astype(np.int64)
    pairs = zip(at[first[shown]].tolist(), at_other[second[shown]].tolist(), strict=True)
    return OverlapProbe(int(np.isin(mine, others).sum()), len(mine), tuple(pairs))


def _given_origins(loader: Any) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Return a number for what each sample of a loader seems to be, and its index."""
    found, sampler = origins_of(loader.dataset), getattr(loader, "sampler", None)
    at = np.arange(len(found))
    if type(sampler) is SubsetRandomSampler:
        at = np.unique(np.asarray(list(sampler.indices), dtype=np.int64))
        at = at[(at >= 0) & (at < len(found))]
    return found[at], at


def origins_of(dataset: Any) -> NDArray[np.uint64]:
    """Return a number for each sample: of its id where it is known, else of its place in the data set it comes from."""
    size = length_of(dataset) or 0
    ids = ids_of(dataset)
    if len(ids) == size:
        twice = [zlib.crc32(one.encode()) << 32 | zlib.crc32(one[::-1].encode()) for one in ids]
        return np.array(twice, dtype=np.uint64)
    return _places(dataset, size)


def _places(dataset: Any, size: int, depth: int = 0) -> NDArray[np.uint64]:
    if isinstance(dataset, Subset):
        inner = _places(dataset.dataset, length_of(dataset.dataset) or 0, depth + 1)
        return inner[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset):
        return np.concatenate([_places(one, length_of(one) or 0, depth + 1) for one in dataset.datasets])
    inside = (_attribute(dataset, name) for name in _INSIDE)
    part = next((one for one in inside if isinstance(one, Dataset) and length_of(one) == size), None)
    if part is not None and depth < _DEEPEST:
        return _places(part, size, depth + 1)
    root = zlib.crc32(f"{type(dataset).__qualname__} {size}".encode())
    return (np.uint64(root) << np.uint64(32)) + np.arange(size, dtype=np.uint64)


def set_epoch_inside(root: Any, epoch: int) -> None:
    """Call ``set_epoch`` of a data set or sampler, and of those in its attributes, where they have it."""
    for part in data_sets(root):
        if callable(getattr(type(part), "set_epoch", None)):
            with suppress(Exception):  # it is the user's
                part.set_epoch(epoch)


def _ask(dataset: Any, own: Callable[[Any, int], Any], depth: int = 0) -> Any:
    """Return what ``own`` tells of a data set or, by index, of those inside; None where it tells nothing."""
    size = length_of(dataset)
    if size is None or depth > _DEEPEST:
        return None
    if isinstance(dataset, Subset):
        inner = _ask(dataset.dataset, own, depth + 1)
        return None if inner is None else [inner[index] for index in dataset.indices]
    if isinstance(dataset, ConcatDataset):
        parts = [_ask(part, own, depth + 1) for part in dataset.datasets]
        return None if any(part is None for part in parts) else [one for part in parts for one in part]
    found = own(dataset, size)
    if found is not None:
        return found
    inside = (_attribute(dataset, name) for name in _INSIDE)
    told = (_ask(part, own, depth + 1) for part in inside if length_of(part) == size)
    return next((one for one in told if one is not None), None)


def _own_labels(dataset: Any, size: int) -> Any:
    held = [_column(dataset, TARGET_KEY), *(_attribute(dataset, name) for name in _LABELS)]
    if isinstance(dataset, list) and all(isinstance(one, tuple) and len(one) == 2 for one in dataset):
        held.append([one[1] for one in dataset])
    if isinstance(dataset, TensorDataset):
        held += dataset.tensors[1:2]
    for value in held:
        if value is None or isinstance(value, str) or length_of(value) != size:
            continue
        array = as_array(value)
        if array is not None and array.ndim == 1 and array.dtype.kind in "iub":
            return array.astype(np.int64)
    return None


def _own_ids(dataset: Any, size: int) -> Any:
    column = _column(dataset, SAMPLE_ID_KEY)
    if column is not None and length_of(column) == size:
        return list(column)
    for value in (_attribute(dataset, name) for name in _FILES):
        paths = isinstance(value, list) and len(value) == size and all(_is_file(one) for one in value)
        if paths:
            return [fspath(one[0]) for one in value]
    return None


def _is_file(one: Any) -> bool:
    return isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str | PathLike)


def _column(dataset: Any, name: str) -> Any:
    """Return a column of a table of items, where a data set is such a table or a list of dicts."""
    if isinstance(dataset, list) and all(isinstance(one, Mapping) and name in one for one in dataset):
        return [one[name] for one in dataset]
    ask, names = _attribute(dataset, "column", called=True), _attribute(dataset, "names")
    return ask(name) if ask is not None and isinstance(names, tuple | list) and name in names else None


def _attribute(part: Any, name: str, *, called: bool = False) -> Any:
    try:
        value = getattr(part, name, None)
    except Exception:  # noqa: BLE001 - a property of the user's may raise anything
        return None
    return value if callable(value) == called else None


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finalizer of splitmix64.
    with np.errstate(over="ignore"):
        numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
        numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
