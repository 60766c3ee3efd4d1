"""Convert state to values that a checkpoint can load without running code, and back."""

import io
import pickle
import warnings
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from pathlib import Path, PurePath
from types import MappingProxyType, NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from assay.callbacks.errors import UsageError

_KIND, _VALUE = "assay kind", "value"  # the keys of a dict that stands for a value torch would not load

_KEPT_TYPES = (
    NoneType, bool, int, float, complex, str, bytes, bytearray, torch.Size, torch.device, torch.dtype,
)  # fmt: skip
_KEYS = (NoneType, bool, int, float, str, bytes)
_DICTS = (dict, OrderedDict, Counter)
_FACTORIES = {"None": None} | {kind.__name__: kind for kind in (bool, int, float, str, list, dict, set)}
_NUMBERS = "?biufcSUmM"  # kinds of NumPy types that hold values and no objects
_LOADABLE_DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.uint8,
    torch.bool,
)
_TENSOR_ERRORS = (LookupError, RuntimeError, TypeError, ValueError, pickle.UnpicklingError)  # of torch.save and load
_SAME_IN_PYTHON = (np.float64, np.int64, np.bool_, np.complex128, np.str_, np.bytes_)


def plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state in types that ``torch.load(weights_only=True)`` accepts; ``restore_state`` is the inverse.

    Tensors, numbers, strings, and lists, tuples and dicts of them are kept. NumPy scalars that Python has too become
    Python's. Arrays, other scalars, sets, ``deque``, ``defaultdict``, named tuples, paths, dates and times become dicts
    that name their type. A named tuple is restored as one with the same fields.

    Raises:
        UsageError: it holds a value of another type; the message names its place.
    """
    try:
        return {key: _to_plain(value, key) for key, value in state.items()}
    except RecursionError as error:
        raise UsageError("a checkpoint cannot hold what refers to itself, or is nested a thousand deep.") from error


def restore_state(value: Any) -> Any:
    """Return the value that ``plain_state`` converted.

    Raises:
        ValueError: it is of a type that this version does not know.
    """
    kind = type(value)
    if kind is dict and value.keys() == {_KIND, _VALUE}:
        if value[_KIND] not in _RESTORERS:
            raise ValueError(f"it holds a {value[_KIND]!r}, which this version of assay does not know")
        return _RESTORERS[value[_KIND]](restore_state(value[_VALUE]))
    if kind in _DICTS:
        return _rebuild_container(value, {key: restore_state(of) for key, of in value.items()})
    if kind in (list, tuple):
        return _rebuild_container(value, kind(restore_state(of) for of in value))
    return value


def _to_plain(value: Any, place: str) -> Any:
    kind = type(value)
    if kind in _KEPT_TYPES:
        # Empty bytes are pickled as a call of the class ``bytes``, which weights_only refuses.
        return value if value != b"" else {_KIND: "bytes", _VALUE: []}
    if isinstance(value, Tensor):
        return _plain_of_tensor(value, place)
    if kind in _DICTS:
        return _plain_of_dict(value, place)
    if kind in (list, tuple):
        return _rebuild_container(value, kind(_to_plain(of, f"{place}[{index}]") for index, of in enumerate(value)))
    if isinstance(value, _SAME_IN_PYTHON):
        return value.item()
    return _describe_value(value, place)


def _plain_of_tensor(tensor: Tensor, place: str) -> Tensor:
    """Return a tensor of torch's own type, without attributes."""
    try:
        own = tensor if type(tensor) in (Tensor, nn.Parameter) else tensor.as_subclass(Tensor)
        if own.is_nested or own.layout is not torch.strided or own.dtype not in _LOADABLE_DTYPES:
            _try_to_load(own)
    except _TENSOR_ERRORS as error:
        kind = "nested" if tensor.is_nested else f"{tensor.layout} of {tensor.dtype}"
        raise _refusal(tensor, place, f" ({kind})") from error
    return own.detach() if getattr(own, "__dict__", None) else own  # attributes may be anything, and would be pickled


def _try_to_load(tensor: Tensor) -> None:
    # torch saves some of the rarer kinds of tensors that it then refuses to load: the user must learn that now.
    file = io.BytesIO()
    torch.save(tensor, file)
    file.seek(0)
    with warnings.catch_warnings(action="ignore"):  # of torch, about the cost of checking a sparse tensor
        torch.load(file, map_location="cpu", weights_only=True)


def _plain_of_dict(value: Any, place: str) -> Any:
    if any(isinstance(key, _SAME_IN_PYTHON) for key in value):
        value = type(value)({_to_plain(key, place): of for key, of in value.items()})
    if all(_is_key(key) for key in value) and _KIND not in value:
        items = {key: _to_plain(of, _place_of_key(place, key)) for key, of in value.items()}
        return _rebuild_container(value, items)
    pairs = [
        [_to_plain(key, f"a key of {place}"), _to_plain(of, _place_of_key(place, key))] for key, of in value.items()
    ]
    return {_KIND: type(value).__name__, _VALUE: pairs}


def _is_key(key: Any) -> bool:
    return (type(key) in _KEYS and key != b"") or (type(key) is tuple and all(_is_key(part) for part in key))


def _rebuild_container(old: Any, new: Any) -> Any:
    """Return a container with new items, or the old one where no item has changed."""
    # The old one is kept because it costs nothing, and keeps whatever is attached to it.
    before = list(old.values()) if isinstance(old, dict) else old
    after = list(new.values()) if isinstance(new, dict) else new
    if all(one is another for one, another in zip(before, after, strict=True)):
        return old
    rebuilt = type(old)(new)
    if hasattr(old, "__dict__"):
        rebuilt.__dict__.update(vars(old))  # a module's state_dict carries the versions of its parts there
    return rebuilt


def _place_of_key(place: str, key: Any) -> str:
    if isinstance(key, str):
        return f"{place}.{key}" if key else place  # the only model of a run is called ""
    return f"{place}[{key!r}]"


def _describe_value(value: Any, place: str) -> dict[str, Any]:
    """Return the dict that stands for a value; raise where there is none."""
    for kind, (name, describe) in _DESCRIBERS.items():
        if type(value) is kind or (kind in (np.generic, PurePath) and isinstance(value, kind)):
            return {_KIND: name, _VALUE: _to_plain(describe(value, place), place)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {_KIND: "namedtuple", _VALUE: _to_plain([type(value).__name__, list(value._fields), list(value)], place)}
    raise _refusal(value, place)


def _refusal(value: Any, place: str, note: str = "") -> UsageError:
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return UsageError(
        f"{place} is a {name}{note}, which a checkpoint cannot hold: keep it as numbers, strings, tensors or arrays, "
        "and lists or dicts of them."
    )


def _describe_array(array: Any, place: str) -> list[Any]:
    array = np.asarray(array)
    if array.dtype.kind not in _NUMBERS or array.dtype.itemsize == 0:
        raise _refusal(array, place, f" of {array.dtype}")
    # As bytes: torch has no tensors of NumPy's strings and times.
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).copy()
    return [array.dtype.str, list(array.shape), torch.from_numpy(content)]


def _describe_defaultdict(value: Any, place: str) -> list[Any]:
    names = [name for name, factory in _FACTORIES.items() if factory is value.default_factory]
    if not names:
        raise _refusal(value, place, f" with the factory {value.default_factory!r}")
    return [names[0], dict(value)]


_DESCRIBERS: dict[type, tuple[str, Callable[[Any, str], Any]]] = {
    np.ndarray: ("array", _describe_array),
    np.memmap: ("array", _describe_array),
    np.generic: ("scalar", _describe_array),
    set: ("set", lambda value, place: list(value)),
    frozenset: ("frozenset", lambda value, place: list(value)),
    deque: ("deque", lambda value, place: [list(value), value.maxlen]),
    defaultdict: ("defaultdict", _describe_defaultdict),
    MappingProxyType: ("dict", lambda value, place: [list(pair) for pair in value.items()]),
    PurePath: ("path", lambda value, place: str(value)),
    datetime: ("datetime", lambda value, place: value.isoformat()),
    date: ("date", lambda value, place: value.isoformat()),
    time: ("time", lambda value, place: value.isoformat()),
    timedelta: ("timedelta", lambda value, place: [value.days, value.seconds, value.microseconds]),
}


def _restore_array(described: list[Any]) -> Any:
    name, shape, content = described
    if (dtype := np.dtype(name)).kind not in _NUMBERS:
        raise ValueError(f"it holds an array of {dtype}")
    return np.frombuffer(content.numpy().tobytes(), np.uint8).view(dtype).reshape(shape).copy()


_RESTORERS: dict[str, Callable[[Any], Any]] = {
    "bytes": bytes,
    "array": _restore_array,
    "scalar": lambda described: _restore_array(described)[()],
    "set": set,
    "frozenset": frozenset,
    "deque": lambda described: deque(*described),
    "defaultdict": lambda described: defaultdict(_FACTORIES[described[0]], described[1]),
    "dict": dict,
    "OrderedDict": OrderedDict,
    "Counter": lambda pairs: Counter(dict(pairs)),
    "namedtuple": lambda described: namedtuple(described[0], described[1])(*described[2]),
    "path": Path,
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda described: timedelta(*described),
}
