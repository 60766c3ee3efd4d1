"""Share the reading of samples out to ranks: each reads stripes of one order, and the main one puts them together."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....support.distributed import gather_to_main_rank, process_rank, world_size
from ...probe.loader_probe import SampleProbe

Found = dict[str, dict[str, Any]]  # by loader and name, what a child has told

COMMON = 2  # samples of the main rank's share that each rank reads, to tell whether all have the same data


@dataclass(frozen=True)
class Share:
    """Which samples one process reads: those at places of the order that are its stripes, modulo their number.

    Attributes:
        stripes: numbers of the stripes.
        of: how many stripes there are.
        leads: whether it also makes the first batches, and reads some samples again.
    """

    stripes: tuple[int, ...] = (0,)
    of: int = 1
    leads: bool = True

    def of_order(self, order: Sequence[int]) -> list[int]:
        """Return the samples to read of all of them in their order, after those that all ranks read."""
        common = [] if self.leads else common_of(order, self.of)
        return [*common, *(index for place, index in enumerate(order) if place % self.of in self.stripes)]


def common_of(order: Sequence[int], ranks: int) -> list[int]:
    """Return the samples that all ranks read, which are the first ones of the main rank's share."""
    return list(order[: COMMON * ranks : ranks])


def plan_of(order: Sequence[int], ids: Sequence[str], labels: NDArray[np.int64] | None) -> tuple[Any, ...]:
    """Return what is the same on ranks that would read the same samples in the same order."""
    named = zlib.crc32("\n".join(ids).encode())
    labelled = None if labels is None else zlib.crc32(np.ascontiguousarray(labels).tobytes())
    return len(order), zlib.crc32(np.array(order, dtype=np.int64).tobytes()), named, labelled


def read_over_ranks(read: Callable[[Share], Found]) -> Found:
    """Return what ``read`` finds in all samples, of which each rank reads its share. A collective.

    A rank that cannot read, or has other data, does not count; the main rank then reads its share as well.

    Args:
        read: reads a share, and returns what it has found by loader.

    Returns:
        On ranks other than the main one, what they have read themselves.
    """
    ranks, rank = world_size(), process_rank()
    if ranks == 1:
        return read(Share())
    share = Share((rank,), ranks, leads=rank == 0)
    mine = read(share) if rank == 0 else _tried(read, share)
    shares = gather_to_main_rank(mine)
    if shares is None:
        return mine
    agreeing = [number for number in range(1, ranks) if _is_alike(mine, shares[number])]
    missing = tuple(number for number in range(1, ranks) if number not in agreeing)
    others = [shares[number] for number in agreeing]
    if missing:
        others.append(read(Share(missing, ranks, leads=False)))
    for other in others:
        for key, one in mine.items():
            _add(one, other.get(key, {}))
    return mine


def _tried(read: Callable[[Share], Found], share: Share) -> Found:
    try:
        return read(share)
    except Exception:  # noqa: BLE001 - whatever it is, the main rank waits for an answer
        return {}


def _is_alike(mine: Found, other: Found) -> bool:
    """Whether another rank has read samples of the same data."""
    return mine.keys() == other.keys() and all(_reads_the_same(one, other[key]) for key, one in mine.items())


def _reads_the_same(mine: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    if mine.get("plan") != other.get("plan"):
        return False
    augments = any(mine["samples"][it].digest != seen for it, seen in mine["again"].items() if it in mine["samples"])
    common = mine["samples"].keys() & other["samples"].keys()
    return all(_is_same(mine["samples"][index], other["samples"][index], augments) for index in common)


def _is_same(mine: SampleProbe, other: SampleProbe, augments: bool) -> bool:
    alike = (mine.name, mine.label, mine.dtype) == (other.name, other.label, other.dtype)
    # A data set with a generator of its own draws differently on each rank.
    return alike and (augments or mine.digest == other.digest)


def _add(mine: dict[str, Any], other: Mapping[str, Any]) -> None:
    for name in ("samples", "errors", "names"):
        mine[name] = {**other.get(name, {}), **mine.get(name, {})}
    for name in ("complete", "held"):
        mine[name] = mine.get(name, False) and other.get(name, False)
    labels = mine.get("labels")
    if labels is not None and not _agree(labels, other.get("samples", {})):
        del mine["labels"]


def _agree(labels: NDArray[np.int64], samples: Mapping[int, SampleProbe]) -> bool:
    return all(
        index < len(labels) and labels[index] == sample.label
        for index, sample in samples.items()
        if sample.label is not None
    )
