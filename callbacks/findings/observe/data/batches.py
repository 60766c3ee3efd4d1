"""Make batches as a loader makes them, and note what they hold."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from ...probe.loader_probe import BatchProbe, SampleProbe
from .pairing import item_digests, item_target_digests, target_digests
from .pixels import as_array, digest_of
from .sample_reader import Keys

MOST_ITEMS = 64


def probe_batch(batch: Any, keys: Keys, samples: Sequence[SampleProbe], items: Sequence[Any] = ()) -> BatchProbe:
    """Return what a batch holds.

    Args:
        batch: as it was collated.
        keys: of its parts.
        samples: those that it was made of; none where they are not known.
        items: the same ones as the data set gave them.
    """
    parts = _parts(batch)
    digests = _digests(keys.image(batch), samples)
    return BatchProbe(
        tuple(sample.index for sample in samples),
        tuple(sample.name for sample in samples),
        _labels(keys.target(batch), samples),
        digests,
        {key: tuple(part.shape) for key, part in parts.items()},
        {key: str(part.dtype).removeprefix("torch.") for key, part in parts.items()},
        target_digests(batch, keys, len(items)),
        item_digests(items, keys, samples, digests),
        item_target_digests(items, keys),
    )


def iterate(loader: Any, count: int, is_late: Callable[[], bool]) -> Iterator[Any]:
    """Yield the first batches of a loader that has no samples by index, without its workers, until it is late."""
    alone = copy.copy(loader)
    if hasattr(loader, "num_workers"):
        settings = {"num_workers": 0, "pin_memory": False, "persistent_workers": False, "prefetch_factor": None}
        alone.__dict__.update(settings, _iterator=None)
        alone.__dict__.pop("_get_iterator", None)
    for batch in islice(alone, count):
        yield batch
        if is_late():
            return


def is_on_cpu(batch: Any) -> bool:
    """Whether no part of a batch lies on another device."""
    if isinstance(batch, torch.Tensor):
        return batch.device.type == "cpu"
    inside = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    return all(is_on_cpu(part) for part in inside)


def cut(batch: Any) -> Any:
    """Return the first MOST_ITEMS samples of a batch, where all of its parts count the same ones along axis 0."""
    parts = list(_parts(batch).values())
    size = len(parts[0]) if parts and parts[0].ndim else 0
    inside = list(batch.values()) if isinstance(batch, Mapping) else list(batch) if type(batch) in (list, tuple) else []
    alike = all(hasattr(part, "__len__") and not isinstance(part, str) and len(part) == size for part in inside)
    if size <= MOST_ITEMS or not inside or not alike:
        return batch
    if isinstance(batch, Mapping):
        return {key: part[:MOST_ITEMS] for key, part in batch.items()}
    return type(batch)(part[:MOST_ITEMS] for part in inside)


def _parts(batch: Any) -> dict[str, Any]:
    if isinstance(batch, Mapping):
        found = {str(key): part for key, part in batch.items()}
    elif isinstance(batch, list | tuple):
        found = {str(place): part for place, part in enumerate(batch)}
    else:
        found = {"0": batch}
    return {key: part for key, part in found.items() if isinstance(part, torch.Tensor | np.ndarray)}


def _labels(targets: Any, samples: Sequence[SampleProbe]) -> tuple[int, ...]:
    array = as_array(targets) if isinstance(targets, torch.Tensor | np.ndarray) else None
    if array is None:
        labels = [sample.label for sample in samples]
        return tuple(label for label in labels if label is not None) if None not in labels else ()
    if array.dtype.kind not in "iub" or array.ndim == 0 or array.size != len(array):
        return ()
    return tuple(array.reshape(-1).astype(int).tolist())


def _digests(images: Any, samples: Sequence[SampleProbe]) -> tuple[bytes, ...]:
    array = as_array(images) if isinstance(images, torch.Tensor | np.ndarray) else None
    if array is None or array.ndim < 2 or (samples and len(array) != len(samples)):
        alone = images if isinstance(images, list | tuple) and len(images) == len(samples) > 0 else ()
        arrays = [as_array(image) for image in alone]
        if arrays and all(one is not None and one.ndim >= 2 for one in arrays):
            return tuple(digest_of(image, one) for image, one in zip(alone, arrays, strict=True) if one is not None)
        return tuple(sample.digest for sample in samples if sample.digest)
    return tuple(digest_of(images, image) for image in array)
