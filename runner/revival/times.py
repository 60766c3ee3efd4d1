"""Mend of TimerCallback, whose times include those of other callbacks."""

from typing import Any

from catalyst import dl

from assay.callbacks.base.order import LAST

from .fault import after, fault


@fault()
def timing() -> bool:
    """TimerCallback counts the backward pass and the optimizer's step as data time."""
    after(dl.TimerCallback, "__init__", _run_last)
    return True


def _run_last(callback: Any) -> None:
    # Its hooks then stand after those that go backward and step, which belong to the batch.
    callback.order = LAST
