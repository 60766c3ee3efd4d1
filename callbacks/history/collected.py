"""What is collected of the samples of a loader in one epoch, before it is written."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..support.checkpoint_values import stored_as
from ..support.distributed import gather_objects, world_size
from ..support.sample_losses import can_join

_BATCHES_AT_ONCE = 64  # that are joined, as a tensor of few numbers takes hundreds of bytes
_NUMBERS_AT_ONCE = 1 << 22  # logits that wait for their numbers, which take some forty operations whatever they are of
_ROWS_AT_ONCE = 65_536  # that ranks exchange, so that memory does not grow with their number


MakeNumbers = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class SampleRows:
    """Rows of samples on the host.

    Attributes:
        positions: [n], int64, in the loader, over all ranks.
        ids: n texts.
        numbers: [n, K], float32; behind the columns of the kind there may be C more: the classes of ``shares``.
        shares: [n, C], float16, probabilities of the classes, of all in their order where none are named; C may be 0.
        kind: a key of ``measures.sample_history.COLUMNS_OF``, which names the columns; empty where there are no rows.
    """

    positions: np.ndarray
    ids: list[str]
    numbers: np.ndarray
    shares: np.ndarray
    kind: str = "multiclass"

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, first: int, last: int) -> "SampleRows":
        """Return the rows from ``first`` to before ``last``."""
        arrays = (part[first:last] for part in (self.positions, self.numbers, self.shares))
        positions, numbers, shares = arrays
        return SampleRows(positions, self.ids[first:last], numbers, shares, self.kind)

    @staticmethod
    def joined(parts: Sequence["SampleRows"]) -> "SampleRows":
        """Return the rows of several parts, of at least one."""
        # A rank without a batch does not know how many columns there are.
        filled = [part for part in parts if len(part)] or parts[:1]
        return SampleRows(
            np.concatenate([part.positions for part in filled]),
            [name for part in filled for name in part.ids],
            np.concatenate([part.numbers for part in filled]),
            np.concatenate([part.shares for part in filled]),
            filled[0].kind,
        )


@stored_as("CollectedSamples")
class CollectedSamples:
    """Keeps numbers of samples on their device until the loader has ended, and their ids on the host.

    Args:
        most: number of samples above which none are kept; None: any.
    """

    def __init__(self, most: int | None):
        self.most = most
        self.left_out = ""  # why none are kept
        self.kind = ""  # of samples
        self.count = 0
        self.joined = 0  # parts that are of many batches each
        self.positions: list[Tensor] = []
        self.ids: list[Any] = []  # of each batch: a tensor, or JSON, which takes a third of what a list takes
        self.numbers: list[Tensor] = []
        self.shares: list[Tensor] = []
        self.waiting: list[list[Tensor]] = []  # of each batch: logits, targets, and losses where they are known

    def leave_out(self, why: str) -> None:
        """Keep no samples of this loader."""
        self.left_out = why
        self.joined = 0
        for kept in (self.positions, self.ids, self.numbers, self.shares, self.waiting):
            kept.clear()

    def add(self, kind: str, first: int, ids: Any, numbers: Tensor, shares: Tensor) -> None:
        """Keep a batch.

        Args:
            kind: see ``SampleRows``.
            first: position of its first sample in the loader.
            ids: from ``kept_ids``.
            numbers: [N, K], float32.
            shares: [N, C], probabilities, of which three digits are kept.
        """
        if self._count(kind, first, ids, len(numbers)):
            self._keep(numbers, shares)
            self._join_many()

    def add_logits(self, kind: str, first: int, ids: Any, parts: Sequence[Tensor], make: MakeNumbers) -> None:
        """Keep a batch whose numbers are made later, of many batches at once.

        Args:
            kind: see ``SampleRows``.
            first: position of its first sample in the loader.
            ids: from ``kept_ids``.
            parts: logits, targets and losses, [N, ...] each, which nobody changes; without the last where they are not
                known.
            make: returns numbers [N, K] and shares [N, C] of the kind and these parts.
        """
        if not self._count(kind, first, ids, len(parts[0])):
            return
        if self.waiting and not can_join(self.waiting[0], parts):
            self.settle(make)
        self.waiting.append(list(parts))
        if sum(of[0].numel() for of in self.waiting) >= _NUMBERS_AT_ONCE or self._is_full():
            self.settle(make)
        self._join_many()

    def settle(self, make: MakeNumbers) -> None:
        """Make the numbers of the batches that wait for them."""
        if self.waiting:
            parts = [torch.cat(of) for of in zip(*self.waiting, strict=True)]
            self.waiting.clear()
            self._keep(*make(self.kind, *parts))

    def _count(self, kind: str, first: int, ids: Any, count: int) -> bool:
        """Count the samples of a batch, and return whether they are kept."""
        self.kind = kind
        self.count += count
        if self.most is not None and self.count > self.most:
            self.leave_out(_too_many(self.most))
        if self.left_out:
            return False
        self.positions.append(torch.arange(first, first + count, dtype=torch.int32))
        self.ids.append(ids)
        return True

    def _keep(self, numbers: Tensor, shares: Tensor) -> None:
        self.numbers.append(numbers)
        self.shares.append(shares.to(torch.float16))

    def _is_full(self) -> bool:
        return len(self.positions) - self.joined >= _BATCHES_AT_ONCE

    def _join_many(self) -> None:
        """Make one part of those of the last batches, if these are many."""
        if not self._is_full():
            return
        for parts in (self.positions, self.numbers, self.shares):
            parts[self.joined :] = [torch.cat(parts[self.joined :])]
        self.ids[self.joined :] = [_joined_ids(self.ids[self.joined :])]
        self.joined += 1

    def rows(self) -> SampleRows:
        """Return what was kept, of which nothing waits any more; waits for the device."""
        # One copy per kind for the whole loader.
        numbers, shares = (
            torch.cat(parts).cpu().numpy() if parts else np.zeros((0, 0), np.float32)
            for parts in (self.numbers, self.shares)
        )
        positions = np.concatenate([np.zeros(0, np.int64), *(part.numpy() for part in self.positions)])
        return SampleRows(positions, [*_texts(self.ids)], numbers, shares.astype(np.float16, copy=False), self.kind)


def kept_ids(ids: Any) -> Any:
    """Return ids that stay as they are while the loader makes the next batch: as a tensor, or as JSON.

    Args:
        ids: [N], integers, or N values of any type, which stand as texts.
    """
    return ids.detach().clone() if isinstance(ids, Tensor) else json.dumps([str(name) for name in ids])


def _joined_ids(ids: Sequence[Any]) -> Any:
    if all(isinstance(of, Tensor) and of.dtype == ids[0].dtype for of in ids):
        return torch.cat([of.reshape(-1) for of in ids])
    # Lists in JSON become one without their inner brackets.
    return "[" + ", ".join(of[1:-1] for of in map(_as_json, ids) if len(of) > 2) + "]"


def _as_json(ids: Any) -> str:
    return json.dumps([str(name) for name in ids.reshape(-1).tolist()]) if isinstance(ids, Tensor) else ids


def _texts(ids: Sequence[Any]) -> Iterator[str]:
    for of_batch in ids:
        if isinstance(of_batch, Tensor):
            yield from map(str, of_batch.reshape(-1).tolist())
        else:
            yield from json.loads(of_batch)


def _too_many(most: int) -> str:
    return f"which has more than {most:,} samples: pass max_samples=None, or --sample-history on"


def over_ranks(collected: CollectedSamples, *, is_main: bool) -> tuple[SampleRows | None, str]:
    """Return the samples of all ranks on the main process, in the order of the loader. A collective.

    Returns:
        The samples, None on other ranks or where they are left out; and why they are left out, empty if they are not.
    """
    told = gather_objects((collected.count, collected.left_out))
    count, why = sum(of for of, _ in told), next((why for _, why in told if why), "")
    if not why and collected.most is not None and count > collected.most:
        why = _too_many(collected.most)
    if why:
        return None, why
    mine = collected.rows()
    if world_size() == 1:
        return _in_order(mine), ""
    parts = [mine.part(0, 0)]
    for first in range(0, max(of for of, _ in told), _ROWS_AT_ONCE):
        sent = gather_objects(mine.part(first, first + _ROWS_AT_ONCE))
        parts += sent if is_main else []
    return (_in_order(SampleRows.joined(parts)) if is_main else None), ""


def _in_order(rows: SampleRows) -> SampleRows:
    order = np.argsort(rows.positions, kind="stable")
    ids = [rows.ids[index] for index in order.tolist()]
    return SampleRows(rows.positions[order], ids, rows.numbers[order], rows.shares[order], rows.kind)
