"""Finds callbacks within Catalyst's wrappers, such as ``ControlFlowCallbackWrapper``."""

from collections.abc import Iterable
from typing import Any

from catalyst.core.callback import CallbackWrapper


def inside(callback: Any) -> Any:
    """Return the callback itself, without what Catalyst wraps around it."""
    while isinstance(callback, CallbackWrapper):
        callback = callback.callback
    return callback


def listening(callbacks: Iterable[Any]) -> list[Any]:
    """Return the callbacks without their wrappers, but those that a wrapper keeps from the loader that runs."""
    return [inside(callback) for callback in callbacks if _is_listening(callback)]


def _is_listening(callback: Any) -> bool:
    while isinstance(callback, CallbackWrapper):
        if not callback._is_enabled:
            return False
        callback = callback.callback
    return True
