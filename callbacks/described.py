"""What a value is, in a few words for an error: types and shapes, and never the numbers in it."""

from collections.abc import Mapping
from typing import Any

_MOST = 6  # entries that are listed
_DEEPEST = 2


def described(value: Any, depth: int = 0) -> str:
    """Return the type of a value; of tensors and arrays with the shape, of tuples, lists and dicts with the entries."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    kind = type(value).__name__
    if not isinstance(value, Mapping | list | tuple) or depth == _DEEPEST:
        return kind
    entries = [
        f"{name!r}: {described(part, depth + 1)}" if isinstance(value, Mapping) else described(part, depth + 1)
        for name, part in list(value.items() if isinstance(value, Mapping) else enumerate(value))[:_MOST]
    ]
    more = [f"and {len(value) - _MOST} more"] if len(value) > _MOST else []
    return f"{kind} of {len(value)} ({', '.join(entries + more)})" if entries else f"empty {kind}"
