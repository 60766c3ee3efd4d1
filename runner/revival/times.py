"""Mend of TimerCallback, whose times include those of other callbacks."""

from typing import Any

from catalyst import dl

from .fault import after, fault

_AFTER_ALL = 1000  # after the callbacks of any order


@fault()
def timing() -> bool:
    """TimerCallback counts the backward pass and the optimizer's step as time that the data takes."""
    after(dl.TimerCallback, "__init__", _run_last)
    return True


def _run_last(callback: Any) -> None:
    callback.order = _AFTER_ALL
