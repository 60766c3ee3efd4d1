"""Mends of samplers whose arguments torch and Python no longer accept."""

from typing import Any

from catalyst.contrib.data.sampler import BalanceBatchSampler
from torch.utils.data import Sampler

from .fault import after, fault


@fault()
def samplers() -> bool:
    """Torch's Sampler no longer accepts a data source, which Catalyst's samplers and those of projects pass to it."""
    if Sampler.__init__ is not object.__init__:
        return False
    setattr(Sampler, "__init__", _ignore_data)  # noqa: B010 - mypy takes no assignment to a method
    return True


def _ignore_data(self: Any, data_source: Any = None) -> None:
    """Accept the data source and ignore it, as torch did."""


@fault()
def sets() -> bool:
    """Python's random.sample no longer accepts a set, which BalanceBatchSampler passes to it."""
    after(BalanceBatchSampler, "__init__", _list_classes)
    return True


def _list_classes(sampler: Any, *args: Any, **kwargs: Any) -> None:
    sampler._classes = sorted(sampler._classes)  # the order of a set of strings differs between processes
