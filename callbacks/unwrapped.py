"""A runner's components as torch knows them, one or several, whatever stands around them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer


def by_name(part: Any) -> dict[str, Any]:
    """Return one component or several by name as a dict; the only one is called ``""``, and None gives an empty one."""
    if part is None:
        return {}
    return dict(part) if isinstance(part, Mapping) else {"": part}


def raw_optimizers(optimizer: Any) -> dict[str, Optimizer]:
    """Return a runner's optimizers by name, ``""`` for the only one; none for None.

    What accelerate wraps around an optimizer refuses hooks, so each is taken out.
    """
    return {name: _raw(part) for name, part in by_name(optimizer).items()}


def _raw(optimizer: Any) -> Optimizer:
    inner = getattr(optimizer, "optimizer", None)
    return _raw(inner) if isinstance(inner, Optimizer) else optimizer


def detached(part: Any) -> Any:
    """Return a part of a batch without the graph of its tensors, through nested dicts and lists."""
    if isinstance(part, Mapping):
        return {name: detached(value) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [detached(value) for value in part]
    return part.detach() if isinstance(part, Tensor) else part
