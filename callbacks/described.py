"""A short description of any value for an error: its type and shape, never its numbers."""

from collections.abc import Mapping
from typing import Any

# Enough to recognize a batch, and still one line.
_MOST_ENTRIES = 6
_DEEPEST = 2


def described(value: Any, depth: int = 0) -> str:
    """Return the type of a value, with the shape of a tensor or array and the entries of a tuple, list or dict."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    kind = type(value).__name__
    if not isinstance(value, Mapping | list | tuple) or depth == _DEEPEST:
        return kind
    entries = [
        f"{name!r}: {described(part, depth + 1)}" if isinstance(value, Mapping) else described(part, depth + 1)
        for name, part in list(value.items() if isinstance(value, Mapping) else enumerate(value))[:_MOST_ENTRIES]
    ]
    more = [f"and {len(value) - _MOST_ENTRIES} more"] if len(value) > _MOST_ENTRIES else []
    return f"{kind} of {len(value)} ({', '.join(entries + more)})" if entries else f"empty {kind}"
