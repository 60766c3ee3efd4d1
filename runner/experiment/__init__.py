"""What is run: the class ``Experiment``, its fields, and how an experiment is found by name.

Names are imported when they are first used, so that ``assay list`` does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Experiment

_HOMES = {"Experiment": ".base"}

__all__ = ["Experiment"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name], __name__), name)
