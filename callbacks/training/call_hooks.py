"""Hooks around each call of a model, outside of what ``torch.compile`` has made of it."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import nn


class Handle(Protocol):
    """Takes a hook out again."""

    def remove(self) -> None: ...


class _Around:
    """Stands in for the compiled call of a model. Hooks would be compiled with it, and an event on a GPU is lost so."""

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
        # Others may stand around this one by now; they end as this one does, with the run.
        if self.model._compiled_call_impl is self:
            self.model._compiled_call_impl = self.call
        self.before = self.after = _nothing


def _nothing() -> None: ...


def around_calls(model: nn.Module, before: Callable[[], None], after: Callable[[], None]) -> list[Handle]:
    """Call ``before`` and ``after`` each call of a model, compiled or not; return what takes them out again."""
    if model._compiled_call_impl is not None:
        return [_Around(model, before, after)]
    return [
        model.register_forward_pre_hook(lambda *_: before()),
        model.register_forward_hook(lambda *_: after()),
    ]
