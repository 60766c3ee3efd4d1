"""Copies of callbacks to try out: with state of their own, and with the models and the data that the others have."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import FunctionType, MethodType, ModuleType, NoneType
from typing import Any

import numpy as np
import torchmetrics
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.support.unwrap import inside

MOST_BYTES = 2**28  # of arrays and tensors: twice as much must not end the run
_MOST_PARTS = 1_000_000  # such as items of lists
_PLAIN = (str, bytes, int, float, complex, NoneType, type, FunctionType, ModuleType)


class TooLargeError(Exception):
    """A callback holds too much for a copy."""


def copy_callback(callback: Any, shared: Iterable[Any]) -> Any:
    """Return a deep copy of a callback that shares the parts of the run, and models, data and optimizers of its own.

    Metrics of torchmetrics, which are modules too, are copied, also those within a module.

    Args:
        callback: what to copy.
        shared: parts of the run.

    Raises:
        TooLargeError: it holds arrays and tensors of more than 256 MB, or a million values.
        Exception: of whatever cannot be copied, such as an open file or a lock.
    """
    memo = {id(part): part for part in shared}
    inner = inside(callback)
    if isinstance(inner, Diagnostic):
        memo[id(inner.writers_)] = {}  # those of a run before
    memo |= {id(part): part for part in parts_to_share(callback, memo)}
    return copy.deepcopy(callback, memo)


def parts_to_share(callback: Any, known: Iterable[int] = ()) -> list[Any]:
    """Return the models, data and optimizers within a callback, at any depth.

    Args:
        callback: where to look.
        known: the ids of objects to look no further at.
    """
    found, size, seen, waiting = [], 0, set(known), [callback]
    while waiting:
        part = waiting.pop()
        if isinstance(part, _PLAIN) or id(part) in seen:
            continue
        seen.add(id(part))
        if _is_shared(part):
            found.append(part)
        elif isinstance(part, Tensor | np.ndarray):
            size += part.nbytes
        else:
            waiting.extend(_parts_of(part))
        if size > MOST_BYTES or len(seen) > _MOST_PARTS or len(waiting) > _MOST_PARTS:
            raise TooLargeError(f"it holds more than {MOST_BYTES >> 20} MB, or a million values")
    return found


def _is_shared(part: Any) -> bool:
    if isinstance(part, nn.Module):
        return not any(isinstance(one, torchmetrics.Metric) for one in part.modules())
    return isinstance(part, Dataset | DataLoader | Optimizer)


def _parts_of(part: Any) -> Iterator[Any]:
    if isinstance(part, Mapping):
        yield from part.values()
    elif isinstance(part, list | tuple | set | frozenset | deque):
        yield from part
    elif isinstance(part, MethodType):
        yield part.__self__
    elif isinstance(part, partial):
        yield from (part.func, part.args, part.keywords)
    yield from getattr(part, "__dict__", {}).values()
