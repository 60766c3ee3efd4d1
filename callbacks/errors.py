"""The exception for wrong use, and helpers that word its messages."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class UsageError(ValueError):
    """Wrong use of assay: the message names the argument, the rule and the value, in one line.

    The command line prints it without a traceback and exits with 2.
    """

    def __init__(self, message: str = ""):
        # An error of a loader's worker is raised again by torch with the worker's traceback as the message, of which
        # the last line is the message itself.
        *traceback, own = str(message).strip().splitlines() or [""]
        is_torchs = bool(traceback) and traceback[0].startswith("Caught ")
        name = f"{type(self).__module__}.{type(self).__qualname__}: "
        super().__init__(own.removeprefix(name) if is_torchs else message)


def listing(names: Iterable[Any]) -> str:
    """Return ``names`` as text for an error message, sorted and in quotes; "nothing" if there are none."""
    return ", ".join(repr(str(name)) for name in sorted(names, key=str)) or "nothing"


def unknown_name(kind: str, name: Any, known: Iterable[str], note: str = "") -> UsageError:
    """Return the error for an unknown name, with the closest spelling, if any, and all names that exist."""
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
