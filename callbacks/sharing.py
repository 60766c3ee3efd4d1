"""Counting once what several diagnostics of a run are drawn from."""

from typing import Protocol, TypeVar

from catalyst import dl


class Shares(Protocol):
    """A callback that may be drawn from what another one counts."""

    @property
    def choice(self) -> object:
        """A value that is equal where two of a kind count the same."""
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
        if isinstance(other, kind) and (other is callback or other.choice == callback.choice):
            return other
    return callback
