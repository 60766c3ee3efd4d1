"""Match the states of callbacks in a checkpoint with the callbacks of a run."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from catalyst import dl

from assay.callbacks.support.unwrap import inside


def collect_states(callbacks: Iterable[Any], state_of: Callable[[Any], Any]) -> dict[str, list[Any]]:
    """Return states by class and prefix; those of callbacks that share both stay in order."""
    states: dict[str, list[Any]] = {}
    for callback in callbacks:
        states.setdefault(_key_of(callback), []).append(state_of(callback))
    return states


def share_out_states(callbacks: Iterable[Any], states: Mapping[str, list[Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield each callback that has a state, with it."""
    left = {name: list(of) for name, of in states.items()}
    # In order: nothing else tells two callbacks of one class and prefix apart.
    unmatched = []
    for callback in callbacks:
        if mine := left.get(_key_of(callback)):
            yield callback, mine.pop(0)
        else:
            unmatched.append(callback)
    # A prefix may be new since the checkpoint: such a callback takes what is left of its class.
    for callback in unmatched:
        if mine := left.get(type(callback).__name__):
            yield callback, mine.pop(0)


def _key_of(callback: Any) -> str:
    prefix = getattr(callback, "prefix", "")
    name = type(callback).__name__
    return f"{name}({prefix})" if prefix and isinstance(prefix, str) else name


def without_loader_state(callbacks: Iterable[Any]) -> list[str]:
    """Return the classes of the callbacks that look at each batch and keep nothing of what they saw."""
    forgetful = [it for it in map(inside, callbacks) if not hasattr(it, "loader_state")]
    return sorted({type(it).__name__ for it in forgetful if type(it).on_batch_end is not dl.Callback.on_batch_end})
