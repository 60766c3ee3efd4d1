"""Reducing over ranks: the one place that talks to ``torch.distributed``.

Everything here is a collective: every rank calls it, in the same order, whether or not it saw a batch. On one
process each function returns what it was given.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")

_OPERATIONS = {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}


def world_size() -> int:
    """Number of processes of the run; 1 where nothing is distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Number of this process among those of the run; 0 where nothing is distributed."""
    return dist.get_rank() if world_size() > 1 else 0


def reduce_state(state: Mapping[str, Tensor], reductions: Mapping[str, str]) -> dict[str, Tensor]:
    """Reduce a measure's state over ranks.

    Args:
        state: named tensors, of the same names, shapes and types on every rank.
        reductions: for each name ``sum``, ``min`` or ``max``.

    Returns:
        New tensors of the same shapes, equal on every rank. Tensors that share a type and a reduction travel in
        one packed message.
    """
    reduced = dict(state)
    if world_size() == 1:
        return reduced
    groups: dict[tuple[str, torch.dtype], list[str]] = {}
    # Sorted, so that every rank packs alike, in whatever order it filled its dict.
    for name in sorted(state):
        groups.setdefault((reductions[name], state[name].dtype), []).append(name)
    for (reduction, _), names in groups.items():
        # One message per type and reduction: the latency of a collective outweighs the bytes of a state.
        packed = torch.cat([state[name].reshape(-1) for name in names])
        dist.all_reduce(packed, op=_OPERATIONS[reduction])
        parts = packed.split([state[name].numel() for name in names])
        reduced.update({name: part.reshape(state[name].shape) for name, part in zip(names, parts, strict=True)})
    return reduced


def gather_rows(rows: Tensor | None, most: int, device: torch.device) -> Tensor | None:
    """Return the rows of all ranks, in the order of the ranks, on every rank.

    Args:
        rows: [n, K], floating point, of any n; None: this rank does not have them.
        most: how many rows there may be at most.
        device: of the rows of all ranks.

    Returns:
        [N, K]; None if a rank does not have its rows, or if they are more than ``most``.
    """
    if world_size() == 1:
        return rows if rows is not None and len(rows) <= most else None
    sizes = torch.zeros(world_size(), dtype=torch.int64, device=device)
    sizes[dist.get_rank()] = most + 1 if rows is None else len(rows)
    counts = reduce_state({"sizes": sizes}, {"sizes": "sum"})["sizes"].tolist()
    if sum(counts) > most or rows is None:
        return None
    # Every rank fills in its own part of zeros, so that the sum is what all have: NaN and infinite values travel too.
    placed = torch.zeros((sum(counts), rows.shape[1]), dtype=rows.dtype, device=device)
    first = sum(counts[: dist.get_rank()])
    placed[first : first + len(rows)] = rows
    return reduce_state({"rows": placed}, {"rows": "sum"})["rows"]


def mean_over_ranks(values: Mapping[str, Any], device: torch.device) -> dict[str, float]:
    """Return the plain mean over ranks of each value, as Catalyst's own metric callbacks expect it."""
    state = {name: torch.as_tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}
    total = reduce_state(state, dict.fromkeys(state, "sum"))
    return {name: float(value) / world_size() for name, value in total.items()}


def winner_over_ranks(item: Item | None, rank_key: Callable[[Item], Any], payload: Callable[[Item], Any]) -> Any:
    """Return the payload of the smallest item of all ranks, on every rank; None where no rank has an item.

    Args:
        item: this rank's candidate; None where it has none.
        rank_key: see ``winners_over_ranks``.
        payload: see ``winners_over_ranks``.
    """
    winners = winners_over_ranks([] if item is None else [item], 1, rank_key, payload)
    return winners[0] if winners else None


def winners_over_ranks(
    items: Sequence[Item],
    count: int,
    rank_key: Callable[[Item], Any],
    payload: Callable[[Item], Any],
    identity: Callable[[Item], Any] | None = None,
) -> list[Any]:
    """Return the payloads of the smallest items of all ranks, in their order, on every rank.

    Args:
        items: this rank's candidates, any number.
        count: how many winners there are at most.
        rank_key: what decides: a small, comparable value, unique over ranks.
        payload: what is wanted of a winner. Called on the winner's rank alone, so that only winners travel.
        identity: a hashable value; of items that share it, the smallest alone counts. None: all are different.
    """
    # Two messages: small keys first, so that the large payloads of winners alone travel.
    mine = [(rank_key(item), None if identity is None else identity(item)) for item in items]
    entries = [
        (key, rank, index, name)
        for rank, keys in enumerate(gather_objects(mine))
        for index, (key, name) in enumerate(keys)
    ]
    chosen: dict[Any, tuple[int, int]] = {}
    # Every rank sorts the same entries, so that all agree on the winners without another message.
    for _, rank, index, name in sorted(entries, key=lambda entry: entry[:3]):
        if len(chosen) < count:
            chosen.setdefault((rank, index) if identity is None else name, (rank, index))
    me = process_rank()
    sent = gather_objects({index: payload(items[index]) for rank, index in chosen.values() if rank == me})
    return [sent[rank][index] for rank, index in chosen.values()]


def from_main_rank(value: Item) -> Item:
    """Return the main rank's value on every rank. For host values: they are pickled."""
    if world_size() == 1:
        return value
    sent = [value]
    dist.broadcast_object_list(sent, src=0)
    return sent[0]


def copy_from_main_rank(tensors: Iterable[Tensor]) -> None:
    """Overwrite tensors, of the same shapes and types on every rank, with those of the main rank."""
    if world_size() > 1:
        # In the order of the caller, which is that of the model and so the same on every rank.
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def gather_objects(value: Any) -> list[Any]:
    """Return the values of all ranks, in their order. For small host values: they are pickled."""
    gathered: list[Any] = [None] * world_size()
    if len(gathered) == 1:
        return [value]
    dist.all_gather_object(gathered, value)
    return gathered


def gather_to_main_rank(value: Item) -> list[Item] | None:
    """Return the values of all ranks, in their order, on the main rank; None on others. For host values, as above."""
    if world_size() == 1:
        return [value]
    gathered: list[Any] | None = [None] * world_size() if process_rank() == 0 else None
    dist.gather_object(value, gathered, dst=0)
    return gathered
