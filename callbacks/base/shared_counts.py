"""Shared counts: what several diagnostics of a run are drawn from is counted once."""

from collections.abc import Hashable, Sequence
from inspect import signature
from typing import Any, Protocol, TypeVar

from catalyst import dl
from torch import Tensor

_NAMING = ("class_names", "score_name", "prefix")  # arguments that name what is counted, and do not change it


class Shares(Protocol):
    """A callback that may be drawn from what another one counts."""

    @property
    def count_key(self) -> object:
        """A value that is equal where two of a kind count the same. The base of a kind makes it, and it alone."""
        ...


Kind = TypeVar("Kind", bound=Shares)


def first_alike(runner: dl.IRunner, callback: Kind, kind: type[Kind]) -> Kind:
    """Return the first callback of the run that would count the same as ``callback``; often itself.

    Args:
        runner: its callbacks run in their order, so what is returned has reported before ``callback`` does.
        callback: the one that asks.
        kind: the class of those that are asked.
    """
    for other in runner.callbacks.values():
        if isinstance(other, kind) and (other is callback or other.count_key == callback.count_key):
            return other
    return callback


def key_of_methods(callback: object, methods: Sequence[str]) -> tuple[Any, ...]:
    """Return what decides what methods of a callback do: where they are defined, and with which arguments.

    A subclass that has one of the methods itself differs from all that lack it, and so do two that were given different
    arguments for it: what the class that defines it takes and keeps under the argument's name. Where it keeps
    an argument under another name, the callback is like no other.

    Args:
        callback: has the methods.
        methods: the names of those that count.
    """
    kinds = [_definer(type(callback), method) for method in methods]
    names = {name for kind in kinds for name in signature(kind).parameters}.difference(_NAMING)
    # A fresh object is equal to nothing else.
    arguments = [(name, _comparable(getattr(callback, name, object()))) for name in sorted(names)]
    return (*(vars(kind)[method] for kind, method in zip(kinds, methods, strict=True)), *arguments)


def _definer(kind: type, method: str) -> type:
    return next(base for base in kind.__mro__ if method in vars(base))


def _comparable(value: Any) -> Any:
    """Return a value by which ``==`` tells whether two are the same; arrays and tensors have none but who they are."""
    if isinstance(value, list | tuple):
        return tuple(map(_comparable, value))
    return value if isinstance(value, Hashable) and not isinstance(value, Tensor) else id(value)
