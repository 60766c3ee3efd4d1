"""Checkpoint values: what was observed of an unfinished loader, as plain values and back."""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError

_PLAIN = (bool, int, float, str, bytes, type(None))
_OBJECT, _STATE = "object of assay", "state"  # the keys of a dict that stands for an object
_ARRAY = "array"

# Checkpoints of before names were stable name an object by the module and the class that it had then. All modules were
# in this package, and no two of the classes had the same name, so that the class alone tells which one is meant.
_HOME = "assay.callbacks"
_FORMER_CLASSES = {"_Smallest": "SmallestSamples"}

_kinds: dict[str, type] = {}  # by the name that a checkpoint holds

Kind = TypeVar("Kind")


def stored_as(name: str) -> Callable[[type[Kind]], type[Kind]]:
    """Let checkpoints hold objects of a class, named by a text that no move and no new name of the class changes.

    Args:
        name: of the class in checkpoints, once and for all; no other class has it.

    Raises:
        ValueError: another class has the name.
    """

    def register(kind: type[Kind]) -> type[Kind]:
        before = _kinds.get(name, kind)
        # The same class once more is one of a module that was loaded again, as notebooks do after a change.
        if (before.__module__, before.__qualname__) != (kind.__module__, kind.__qualname__):
            raise ValueError(f"{kind.__qualname__} cannot be stored as {name!r}: {before.__qualname__} is.")
        _kinds[name] = kind
        kind._stored_as = name  # type: ignore[attr-defined]
        return kind

    return register


def stored_names() -> dict[str, type]:
    """Return the classes of which checkpoints can hold objects, of the modules imported so far, by name."""
    return dict(_kinds)


def to_plain(part: Any) -> Any:
    """Return a nested structure in types that ``torch.load(weights_only=True)`` takes, with its tensors on the CPU.

    Args:
        part: tensors, arrays, plain values, objects of classes that are ``stored_as`` something (measures and what
            they hold), and dicts, lists, tuples, sets and deques of them.

    Raises:
        TypeError: it holds something else.
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
        return {key: to_plain(value) for key, value in part.items()}
    if isinstance(part, list | deque | set | frozenset):
        return [to_plain(value) for value in part]
    if isinstance(part, tuple):
        return tuple(to_plain(value) for value in part)
    kind = type(part)
    # Asked of the class itself: a subclass would come back as what it inherits from.
    name = vars(kind).get("_stored_as")
    if name is None:
        raise TypeError(f"what was observed of a loader cannot be kept: it holds a {kind.__module__}.{kind.__name__}.")
    return {_OBJECT: name, _STATE: to_plain(part.__getstate__())}


def from_plain(plain: Any, like: Any = None) -> Any:
    """Return what ``to_plain`` was given.

    Args:
        plain: what ``to_plain`` returned.
        like: what stands in its place now: tensors go to the device of the one that they replace, containers become
            what they were. An object of the same class is filled in; where there is none, a new one is made.

    Raises:
        UsageError: it names a class that no checkpoint holds objects of.
    """
    if isinstance(plain, Tensor):
        return plain.to(like.device) if isinstance(like, Tensor) else plain
    if isinstance(plain, dict):
        if _OBJECT in plain:
            return _make_object(plain[_OBJECT], plain[_STATE], like)
        like = like if isinstance(like, Mapping) else {}
        items = {key: from_plain(value, like.get(key)) for key, value in plain.items()}
        return type(like)(items) if type(like) is not dict else items
    if isinstance(plain, list):
        values = [from_plain(value) for value in plain]
        if isinstance(like, deque):
            return deque(values, maxlen=like.maxlen)
        return set(values) if isinstance(like, set) else values
    return tuple(from_plain(value) for value in plain) if isinstance(plain, tuple) else plain


def _make_object(name: str, state: Any, like: Any) -> Any:
    if name == _ARRAY:
        return state.numpy()
    kind = _find_class(name)
    # Without its constructor, whose arguments a checkpoint does not hold.
    made = like if type(like) is kind else object.__new__(kind)
    for key, value in (state or {}).items():
        object.__setattr__(
            made, key, from_plain(value, getattr(made, key, None))
        )  # a frozen dataclass has no other way
    return made


def _find_class(name: str) -> type:
    module, colon, kind = name.rpartition(":")
    known = not colon or module.startswith(f"{_HOME}.")
    # Nothing is imported by what a file names: only a class that its module has registered is made.
    found = _kinds.get(_FORMER_CLASSES.get(kind, kind)) if known else None
    if found is None:
        raise UsageError(f"the checkpoint holds an object of {name!r}, which is not one of {_HOME}.")
    return found
