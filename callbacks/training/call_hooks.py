"""Hooks before and after each call of a model, also of one that is compiled in place."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import nn


class Handle(Protocol):
    """Something that removes a hook."""

    def remove(self) -> None: ...


class _WrappedCall:
    """Wraps the compiled call of a model."""

    # Hooks of the module would be compiled with it, and the events that they record on a GPU would be lost.

    def __init__(self, model: nn.Module, before: Callable[[], None], after: Callable[[], None]):
        self.model, self.before, self.after = model, before, after
        self.call: Any = model._compiled_call_impl
        model._compiled_call_impl = self  # type: ignore[assignment]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.before()
        output = self.call(*args, **kwargs)
        self.after()
        return output

    def remove(self) -> None:
        # Others may have wrapped this one since: then it stays, and does nothing. They all end with the run.
        if self.model._compiled_call_impl is self:
            self.model._compiled_call_impl = self.call
        self.before = self.after = lambda: None


def around_calls(model: nn.Module, before: Callable[[], None], after: Callable[[], None]) -> list[Handle]:
    """Call ``before`` and ``after`` around each call of a model, compiled or not; return handles that remove them."""
    if model._compiled_call_impl is not None:
        return [_WrappedCall(model, before, after)]
    return [
        model.register_forward_pre_hook(lambda *_: before()),
        model.register_forward_hook(lambda *_: after()),
    ]
