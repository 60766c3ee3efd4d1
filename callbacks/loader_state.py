"""What was observed of a loader that is not at its end: as plain values for a checkpoint, and back."""

from collections import deque
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .errors import UsageError

_PLAIN = (bool, int, float, str, bytes, type(None))
_OBJECT, _STATE = "object of assay", "state"  # the keys of a dict that stands for one
_ARRAY = "array"
_HOME = __package__


def freeze(part: Any) -> Any:
    """Return a nested structure in types that ``torch.load(weights_only=True)`` takes, with its tensors on the CPU.

    Args:
        part: tensors, arrays, plain values, objects of ``assay.callbacks`` (measures and what they hold), and dicts,
            lists, tuples, sets and deques of them.

    Raises:
        TypeError: there is something else in it.
    """
    if isinstance(part, Tensor):
        return part.detach().cpu()
    if isinstance(part, np.ndarray):
        return {_OBJECT: _ARRAY, _STATE: torch.from_numpy(np.ascontiguousarray(part))}
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, _PLAIN):
        return part
    if isinstance(part, Mapping):
        return {key: freeze(value) for key, value in part.items()}
    if isinstance(part, list | deque | set | frozenset):
        return [freeze(value) for value in part]
    if isinstance(part, tuple):
        return tuple(freeze(value) for value in part)
    kind = type(part)
    if not kind.__module__.startswith(f"{_HOME}."):
        raise TypeError(f"what was observed of a loader cannot be kept: it holds a {kind.__module__}.{kind.__name__}.")
    return {_OBJECT: f"{kind.__module__}:{kind.__name__}", _STATE: freeze(part.__getstate__())}


def thaw(frozen: Any, like: Any = None) -> Any:
    """Return what was frozen.

    Args:
        frozen: what ``freeze`` returned.
        like: what stands in its place now: tensors go to the device of the one that they replace, containers become
            what they were. An object of the same class is filled in; where there is none, a new one is made.

    Raises:
        UsageError: it names a class that is not one of ``assay.callbacks``.
    """
    if isinstance(frozen, Tensor):
        return frozen.to(like.device) if isinstance(like, Tensor) else frozen
    if isinstance(frozen, dict):
        if _OBJECT in frozen:
            return _thaw_object(frozen[_OBJECT], frozen[_STATE], like)
        like = like if isinstance(like, Mapping) else {}
        items = {key: thaw(value, like.get(key)) for key, value in frozen.items()}
        return type(like)(items) if type(like) is not dict else items
    if isinstance(frozen, list):
        values = [thaw(value) for value in frozen]
        if isinstance(like, deque):
            return deque(values, maxlen=like.maxlen)
        return set(values) if isinstance(like, set) else values
    return tuple(thaw(value) for value in frozen) if isinstance(frozen, tuple) else frozen


def _thaw_object(name: str, state: Any, like: Any) -> Any:
    if name == _ARRAY:
        return state.numpy()
    kind = _find_class(name)
    thawed = like if type(like) is kind else object.__new__(kind)
    for key, value in (state or {}).items():
        object.__setattr__(thawed, key, thaw(value, getattr(thawed, key, None)))  # a frozen dataclass has no other way
    return thawed


def _find_class(name: str) -> type:
    module, _, kind = name.partition(":")
    found = getattr(import_module(module), kind, None) if module.startswith(f"{_HOME}.") else None
    if not isinstance(found, type) or found.__module__ != module:
        raise UsageError(f"the checkpoint holds an object of {name!r}, which is not one of {_HOME}.")
    return found
