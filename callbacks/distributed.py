"""Reducing over ranks: the one place that talks to ``torch.distributed``.

Everything here is a collective: every rank calls it, in the same order, whether or not it saw a batch. On one
process each function returns what it was given.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")

_OPERATIONS = {"sum": dist.ReduceOp.SUM, "min": dist.ReduceOp.MIN, "max": dist.ReduceOp.MAX}


def world_size() -> int:
    """Number of processes of the run; 1 where nothing is distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


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
    for name in sorted(state):
        groups.setdefault((reductions[name], state[name].dtype), []).append(name)
    for (reduction, _), names in groups.items():
        packed = torch.cat([state[name].reshape(-1) for name in names])
        dist.all_reduce(packed, op=_OPERATIONS[reduction])
        parts = packed.split([state[name].numel() for name in names])
        reduced.update({name: part.reshape(state[name].shape) for name, part in zip(names, parts, strict=True)})
    return reduced


def mean_over_ranks(values: Mapping[str, Any], device: torch.device) -> dict[str, float]:
    """Return the plain mean over ranks of each value, as Catalyst's own metric callbacks expect it."""
    state = {name: torch.as_tensor(value, dtype=torch.float64, device=device) for name, value in values.items()}
    total = reduce_state(state, dict.fromkeys(state, "sum"))
    return {name: float(value) / world_size() for name, value in total.items()}


def winner_over_ranks(item: Item | None, rank_key: Callable[[Item], Any], payload: Callable[[Item], Any]) -> Any:
    """Return the payload of the smallest item of all ranks, on every rank.

    Args:
        item: this rank's candidate; None where it has none.
        rank_key: what decides: a small, comparable value, unique over ranks.
        payload: what is wanted of the winner. Called on the winning rank alone, so that only a winner travels.

    Returns:
        The payload, or None where no rank had a candidate.
    """
    if world_size() == 1:
        return None if item is None else payload(item)
    mine = None if item is None else rank_key(item)
    keys: Sequence[Any] = gather_objects(mine)
    present = [key for key in keys if key is not None]
    if not present:
        return None
    winner = keys.index(min(present))
    box = [payload(item) if item is not None and winner == dist.get_rank() else None]
    dist.broadcast_object_list(box, src=winner)
    return box[0]


def gather_objects(value: Any) -> list[Any]:
    """Return the values of all ranks, in their order. For small host values: they are pickled."""
    gathered: list[Any] = [None] * world_size()
    if len(gathered) == 1:
        return [value]
    dist.all_gather_object(gathered, value)
    return gathered
