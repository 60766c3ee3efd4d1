"""A context that undoes what calls of a criterion change: its state, and the random state."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .buffer_snapshot import BufferSnapshot
from .rng import RngState


@contextmanager
def undone(criterion: Any, device: torch.device) -> Iterator[None]:
    """Take back what calls of a criterion change: its buffers and attributes, and what they draw.

    Some count their calls or the classes that they have seen, or sample. A list that grows in place is not taken back.

    Args:
        criterion: a module, a function, a method or an object, or several by name.
        device: whose generator it may draw from, beside those of the host.
    """
    state = RngState.take(device)
    parts = [vars(part) for part in _objects(criterion)]
    parts += [part["_buffers"] for part in parts if "_buffers" in part]
    # The dicts are kept and filled again, not replaced: a module's buffers are looked up in its very own dict.
    before = [(part, dict(part)) for part in parts]
    # A tensor that is changed in place stays the same object in its dict, so its content is kept apart.
    tensors = BufferSnapshot(value for part in parts for value in part.values() if isinstance(value, Tensor))
    tensors.take()
    try:
        yield
    finally:
        for part, values in before:
            part.clear()
            part.update(values)
        tensors.restore()
        state.restore()


def _objects(criterion: Any) -> list[Any]:
    if isinstance(criterion, Mapping):
        return [part for one in criterion.values() for part in _objects(one)]
    criterion = criterion.func if isinstance(criterion, partial) else criterion
    criterion = getattr(criterion, "__self__", criterion)
    if isinstance(criterion, nn.Module):
        return list(criterion.modules())
    return [criterion] if hasattr(criterion, "__dict__") else []
