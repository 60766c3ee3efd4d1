"""What is collected of the samples of a loader in one epoch, before it is written."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError, described
from ..measures.sample_history import COLUMNS_OF, box_columns, map_columns
from ..support.checkpoint_values import stored_as
from ..support.distributed import gather_objects, world_size
from ..support.sample_losses import RowCriterion, can_join

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
            Of samples with boxes, what speaks against these: ``measures.box_evidence.EVIDENCE``; with maps, the recall
            of each class.
        kind: a key of ``measures.sample_history.COLUMNS_OF``, which names the columns; empty where there are no rows.
    """

    positions: np.ndarray
    ids: list[str]
    numbers: np.ndarray
    shares: np.ndarray
    kind: str = "multiclass"

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of an epoch's file for some rows."""
        if self.kind == "detection":
            return box_columns(self.numbers[rows], self.shares[rows])
        if self.kind == "segmentation":
            return map_columns(self.numbers[rows])
        return {name: self.numbers[rows, place] for place, name in enumerate(COLUMNS_OF[self.kind])}

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
        # Of the last batches first and last; of those before them a tensor.
        self.positions: list[tuple[int, int] | Tensor] = []
        # Of the last batches from ``kept_ids``; of those before them a tensor, or JSON, which takes a third of a list.
        self.ids: list[Any] = []
        self.numbers: list[Tensor] = []
        self.shares: list[Tensor] = []
        self.waiting: list[list[Tensor]] = []  # of each batch: logits, targets, and losses where they are known
        self.numbers_waiting = 0  # logits
        self.criterion: RowCriterion | None = None  # by which those that wait without losses have theirs

    def leave_out(self, why: str) -> None:
        """Keep no samples of this loader."""
        self.left_out = self.left_out or why  # the first reason is that of whole batches
        self.joined = self.numbers_waiting = 0
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
        self.numbers_waiting += parts[0].numel()
        if self.numbers_waiting >= _NUMBERS_AT_ONCE or self._is_full():
            self.settle(make)
        self._join_many()

    def use(self, criterion: RowCriterion | None, make: MakeNumbers) -> None:
        """Have the losses of the next batches found by a criterion, from their logits and targets; None: not at all."""
        if criterion != self.criterion:
            self.settle(make)
            self.criterion = criterion

    def settle(self, make: MakeNumbers) -> None:
        """Make the numbers of the batches that wait for them."""
        if self.waiting:
            parts = [torch.cat(of) for of in zip(*self.waiting, strict=True)]
            self.waiting.clear()
            self.numbers_waiting = 0
            self._keep(*make(self.kind, *parts))

    def _count(self, kind: str, first: int, ids: Any, count: int) -> bool:
        """Count the samples of a batch, and return whether they are kept."""
        self.kind = kind
        self.count += count
        if self.most is not None and self.count > self.most:
            self.leave_out(_too_many(self.most))
        if self.left_out:
            return False
        self.positions.append((first, first + count))
        self.ids.append(ids)
        return True

    def _keep(self, numbers: Tensor, shares: Tensor) -> None:
        if self.numbers and (numbers.shape[1], shares.shape[1]) != (self.numbers[0].shape[1], self.shares[0].shape[1]):
            raise UsageError(
                "SampleHistory needs outputs of as many classes in all batches of a loader, got "
                f"{shares.shape[1]} after {self.shares[0].shape[1]}."
            )
        self.numbers.append(numbers)
        self.shares.append(shares.to(torch.float16))

    def _is_full(self) -> bool:
        return len(self.positions) - self.joined >= _BATCHES_AT_ONCE

    def _join_many(self) -> None:
        """Make one part of those of the last batches, if these are many."""
        if not self._is_full():
            return
        self.positions[self.joined :] = [torch.tensor(_joined_positions(self.positions[self.joined :]))]
        for parts in (self.numbers, self.shares):
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
        positions = _joined_positions(self.positions).astype(np.int64)
        return SampleRows(
            positions,
            [*chain.from_iterable(map(_texts, self.ids))],
            numbers,
            shares.astype(np.float16, copy=False),
            self.kind,
        )


def why_no_ids(ids: Any, count: int) -> str:
    """Return why values name no samples; empty if they do: as [N] or [N, 1], or as N values of one each.

    Args:
        ids: of a batch.
        count: N.
    """
    parts = list(ids) if isinstance(ids, list | tuple | range | np.ndarray) else [ids]
    # Torch joins ids that are tuples to a list of their parts, each of N values.
    arrays = [part for part in parts if isinstance(part, Tensor | np.ndarray)]
    found = sum(math.prod(part.shape) for part in arrays) + len(parts) - len(arrays)
    if found == count and (isinstance(ids, Tensor) or len(parts) == count):
        return ""
    return f"as its batches do not name each sample by one text or number: they have {described(ids)} for {count:,}"


def kept_ids(ids: Any) -> Any:
    """Return ids that stay as they are while the loader makes the next batch: a tensor, texts, or first and last.

    Args:
        ids: [N], integers; a range; or N values of any type, which stand as texts.
    """
    if isinstance(ids, Tensor):
        return ids.detach().clone()
    return (ids.start, ids.stop) if isinstance(ids, range) else [*map(str, ids)]


def _joined_positions(parts: Sequence[tuple[int, int] | Tensor]) -> np.ndarray:
    arrays = (of.numpy() if isinstance(of, Tensor) else np.arange(*of, dtype=np.int32) for of in parts)
    return np.concatenate([np.zeros(0, np.int32), *arrays])


def _joined_ids(ids: Sequence[Any]) -> Any:
    if all(isinstance(of, Tensor) and of.dtype == ids[0].dtype for of in ids):
        return torch.cat([of.reshape(-1) for of in ids])
    return json.dumps([*chain.from_iterable(map(_texts, ids))])


def _texts(ids: Any) -> Iterable[str]:
    """Return ids of one batch or of several as texts."""
    if isinstance(ids, Tensor):
        return map(str, ids.reshape(-1).tolist())
    if isinstance(ids, tuple):
        return map(str, range(*ids))
    texts: list[str] = json.loads(ids) if isinstance(ids, str) else ids
    return texts


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
