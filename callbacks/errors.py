"""UsageError, the exception for wrong use, and functions that compose its messages."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

# Enough to recognize a batch, and still one line.
_MOST_ENTRIES = 6
_DEEPEST = 2


class UsageError(ValueError):
    """Wrong use of assay: the message names the argument, the rule and the value, in one line.

    The command line prints it without a traceback and exits with 2.
    """

    def __init__(self, message: str = ""):
        # torch raises the error of a loader's worker again, with the worker's whole traceback as its message. The last
        # line of that is the message itself.
        *traceback, own = str(message).strip().splitlines() or [""]
        is_torchs = bool(traceback) and traceback[0].startswith("Caught ")
        name = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(own.removeprefix(name) if is_torchs else message)


def listing(names: Iterable[Any]) -> str:
    """Return ``names`` as text for an error message, sorted and in quotes; "nothing" if there are none."""
    return ", ".join(repr(str(name)) for name in sorted(names, key=str)) or "nothing"


def unknown_name(kind: str, name: Any, known: Iterable[str], note: str = "") -> UsageError:
    """Return the error for an unknown name, with the closest known spelling and all known names.

    Example:
        >>> print(unknown_name("scheduler", "cosin", ["cosine", "plateau"]))
        unknown scheduler 'cosin'; did you mean 'cosine'? There is: 'cosine', 'plateau'.
    """
    known = list(known)
    close = get_close_matches(str(name).lower(), [k.lower() for k in known], n=1)
    nearest = next((k for k in known if close and k.lower() == close[0]), None)
    hint = f"; did you mean {nearest!r}?" if nearest else "."
    return UsageError(f"unknown {kind} {name!r}{note}{hint} There is: {listing(known)}.")


def at_least_one(name: str, value: int) -> int:
    """Return ``value``; raise a ``UsageError`` if it is not an integer of at least 1."""
    if not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be an integer of at least 1, got {value!r}.")
    return value


def described(value: Any, depth: int = 0) -> str:
    """Return the type of a value; tensors and arrays with their shape, tuples, lists and dicts with their entries.

    Example:
        >>> import torch
        >>> described({"image": torch.zeros(3, 8, 8), "target": 3})
        "dict of 2 ('image': float32 [3, 8, 8], 'target': int)"
    """
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    # Only types and shapes: an error must neither read a tensor from the device nor print its numbers.
    kind = type(value).__name__
    if not isinstance(value, Mapping | list | tuple) or depth == _DEEPEST:
        return kind
    entries = [
        f"{name!r}: {described(part, depth + 1)}" if isinstance(value, Mapping) else described(part, depth + 1)
        for name, part in list(value.items() if isinstance(value, Mapping) else enumerate(value))[:_MOST_ENTRIES]
    ]
    more = [f"and {len(value) - _MOST_ENTRIES} more"] if len(value) > _MOST_ENTRIES else []
    return f"{kind} of {len(value)} ({', '.join(entries + more)})" if entries else f"empty {kind}"
