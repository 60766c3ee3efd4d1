"""The states of callbacks in a checkpoint: of several of a class each gets its own back."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


def collect_states(callbacks: Iterable[Any], state_of: Callable[[Any], Any]) -> dict[str, list[Any]]:
    """Return states by class and prefix, those that have both in common in their order."""
    states: dict[str, list[Any]] = {}
    for callback in callbacks:
        states.setdefault(_name(callback), []).append(state_of(callback))
    return states


def share_out_states(callbacks: Iterable[Any], states: Mapping[str, list[Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield each callback that a state is for, with it.

    One with a prefix that the checkpoint does not know takes a state of its class that nobody else takes, as where the
    prefix was given to one of two since.
    """
    left = {name: list(of) for name, of in states.items()}
    strangers = []
    for callback in callbacks:
        if mine := left.get(_name(callback)):
            yield callback, mine.pop(0)
        else:
            strangers.append(callback)
    for callback in strangers:
        if mine := left.get(type(callback).__name__):
            yield callback, mine.pop(0)


def _name(callback: Any) -> str:
    prefix = getattr(callback, "prefix", "")
    name = type(callback).__name__
    return f"{name}({prefix})" if prefix and isinstance(prefix, str) else name
