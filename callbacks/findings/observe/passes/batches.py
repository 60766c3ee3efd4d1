"""The batches that a model is tried on: the first ones, cut to as few samples as tell enough."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Numbers per sample, and how many samples of such are tried: a pass costs about as much as its pixels.
_SIZES = ((3 * 96 * 96, 64), (3 * 160 * 160, 16))
_OF_LARGE = 8  # fewer would leave the deepest normalization layers too few values


def first_batch(batches: Mapping[str, Sequence[Any]], kind: str) -> Any:
    """Return the first batch of the first loader of a kind, ``train`` or ``valid``; None where there is none."""
    return next((group[0] for key, group in batches.items() if key.startswith(kind) and len(group)), None)


def samples_in(batch: Any) -> int:
    """Return the number of samples: the length of the first tensor with an axis, else of the first list; 0: none."""
    parts = [batch] if isinstance(batch, Tensor) else [*(batch.values() if isinstance(batch, Mapping) else batch)]
    return next(_lengths(parts), 0)


def _lengths(parts: Sequence[Any]) -> Iterator[int]:
    yield from (len(part) for part in parts if isinstance(part, Tensor) and part.ndim)
    yield from (length for part in parts if isinstance(part, Mapping) for length in _lengths([*part.values()]))
    yield from (len(part) for part in parts if isinstance(part, list | tuple))


def few_samples(batch: Any, most: int | None = None) -> Any:
    """Return a batch with its first samples only, as many as its images allow, and ``most`` at most."""
    size = samples_in(batch)
    count = min(size, _affordable(batch, size), size if most is None else most)
    return cut(batch, 0, count, size) if count < size else batch


def _affordable(batch: Any, size: int) -> int:
    # Images of a list are of one sample each, those of a tensor of all.
    largest = max((_numbers(tensor, size) for tensor in tensors_in(batch)), default=0)
    return next((count for limit, count in _SIZES if largest <= limit), _OF_LARGE)


def _numbers(tensor: Tensor, size: int) -> int:
    shared = tensor.ndim and len(tensor) == size
    return tensor.numel() // max(size, 1) if shared else tensor.numel()


def tensors_in(part: Any) -> Iterator[Tensor]:
    """Yield the tensors of nested dicts, lists and tuples."""
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, Mapping | list | tuple):
        for value in part.values() if isinstance(part, Mapping) else part:
            yield from tensors_in(value)


def cut(part: Any, first: int, last: int, size: int, *, whole: bool = True) -> Any:
    """Return the samples from ``first`` to before ``last`` of a batch of ``size`` samples, in all of its parts.

    Args:
        part: the batch, or a part of it.
        first: number of the first sample.
        last: number of the sample behind the last one.
        size: of the batch; what is of another length is kept whole.
        whole: whether it is the batch itself, which is no list of samples.
    """
    if isinstance(part, Tensor):
        return part[first:last] if part.ndim and len(part) == size else part
    if isinstance(part, Mapping):
        return {key: cut(value, first, last, size, whole=False) for key, value in part.items()}
    if isinstance(part, list | tuple):
        if len(part) == size and not whole and not _of_batches(part, size):
            return part[first:last]
        return rebuilt(part, [cut(value, first, last, size, whole=False) for value in part])
    return part


def _of_batches(part: Sequence[Any], size: int) -> bool:
    """Whether each element, as each view of a batch of two, is of all samples."""
    return all(isinstance(value, Tensor) and value.ndim and len(value) == size for value in part)


def rebuilt(part: Any, values: list[Any]) -> Any:
    """Return a list or a tuple, named ones included, of the kind of ``part``."""
    return type(part)(*values) if hasattr(part, "_fields") else type(part)(values)


def sent(part: Any, device: torch.device) -> Any:
    """Return copies of a batch's tensors on a device, so that whatever works in place leaves the batch as it is."""
    if isinstance(part, Tensor):
        return part.to(device, copy=True)
    if isinstance(part, Mapping):
        return {key: sent(value, device) for key, value in part.items()}
    if isinstance(part, list | tuple):
        return rebuilt(part, [sent(value, device) for value in part])
    return part
