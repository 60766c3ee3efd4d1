"""How many samples the batch holds that a runner is at."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from catalyst import dl
from torch import Tensor


def batch_size(runner: dl.IRunner) -> int:
    """Return the number of samples of the batch that the runner is at.

    A ``DictRunner`` knows it. Catalyst's own runners take the length of the batch's first part, whatever that is: of
    two views in a list it is 2. There the first tensor with an axis tells, or else the first list.
    """
    if counts_samples(runner):
        return int(runner.batch_size)
    return next(_lengths(runner.batch.values()), int(runner.batch_size))


def samples_of_keys(runner: dl.IRunner, keys: Iterable[str]) -> int:
    """Return the number of samples of the first of the keys that the batch holds, or else of the batch.

    They differ where ``handle_batch`` puts other samples into the batch than the loader gave.
    """
    batch = runner.batch if isinstance(runner.batch, Mapping) else {}
    parts = [batch[key] for key in keys if key in batch]
    return next(_lengths(parts), batch_size(runner))


def counts_samples(runner: dl.IRunner) -> bool:
    """Whether the runner's own ``batch_size`` is the number of samples, and not the length of something else."""
    if hasattr(runner, "place") or not isinstance(runner.batch, Mapping):
        return True
    return isinstance(next(iter(runner.batch.values()), None), Tensor)


def _lengths(parts: Iterable[Any]) -> Iterator[int]:
    parts = list(parts)
    yield from (len(part) for part in parts if isinstance(part, Tensor) and part.ndim)
    yield from (length for part in parts if isinstance(part, Mapping) for length in _lengths(part.values()))
    yield from (len(part) for part in parts if isinstance(part, list | tuple))
