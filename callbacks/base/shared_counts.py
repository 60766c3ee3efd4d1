"""Shared counts: callbacks of one run that need the same counts take them from the first of them."""

from collections.abc import Hashable, Sequence
from inspect import signature
from typing import Any, Protocol, TypeVar

from catalyst import dl
from torch import Tensor

# Arguments that name what is counted, and do not change it.
_NAMING = ("class_names", "score_name", "prefix")


class Shares(Protocol):
    """A callback that may use what another one counts."""

    @property
    def count_key(self) -> object:
        """A value that is equal for two callbacks of a kind that count the same. Only the base of a kind makes it."""
        ...


Kind = TypeVar("Kind", bound=Shares)


def first_alike(runner: dl.IRunner, callback: Kind, kind: type[Kind]) -> Kind:
    """Return the first callback of the run that counts the same as ``callback``, often ``callback`` itself.

    Args:
        runner: the runner with its callbacks in running order.
        callback: the callback that needs the counts.
        kind: the class whose instances may share them.
    """
    # In running order, so the one that counts has reported before any that takes its counts.
    for other in runner.callbacks.values():
        if isinstance(other, kind) and (other is callback or other.count_key == callback.count_key):
            return other
    return callback


def key_of_methods(callback: object, methods: Sequence[str]) -> tuple[Any, ...]:
    """Return a key of what some methods of a callback do: which functions they are, and with which arguments.

    A subclass that overrides one of the methods has another key. So have two callbacks with different arguments: those
    that the class that defines a method takes, and keeps in an attribute of the same name.

    Args:
        callback: the callback with the methods.
        methods: names of the methods that count.
    """
    # Derived from the code and never written by hand: a subclass that forgets its key would silently get the counts of
    # another callback.
    kinds = [_definer(type(callback), method) for method in methods]
    names = {name for kind in kinds for name in signature(kind).parameters}.difference(_NAMING)
    # An argument without an attribute of its name is unknown: a fresh object equals nothing, so nothing is shared.
    arguments = [(name, _comparable(getattr(callback, name, object()))) for name in sorted(names)]
    return (*(vars(kind)[method] for kind, method in zip(kinds, methods, strict=True)), *arguments)


def _definer(kind: type, method: str) -> type:
    return next(base for base in kind.__mro__ if method in vars(base))


def _comparable(value: Any) -> Any:
    """Return a value that can be compared with ``==``."""
    # Comparing arrays or tensors gives one answer per element: they count as the same only if they are one object.
    if isinstance(value, list | tuple):
        return tuple(map(_comparable, value))
    return value if isinstance(value, Hashable) and not isinstance(value, Tensor) else id(value)
