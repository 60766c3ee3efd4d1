"""Times that mean what their names say."""

from typing import Any

from catalyst import dl

from .fault import after, fault

_LAST = 1000  # after the callbacks of any order


@fault()
def timing() -> bool:
    """TimerCallback counts the backward pass and the optimizer's step as time that the data takes."""
    after(dl.TimerCallback, "__init__", _come_last)
    return True


def _come_last(callback: Any) -> None:
    callback.order = _LAST
