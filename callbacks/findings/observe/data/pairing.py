"""Digests of the images and targets of a batch and of its items, which tell whether they were put together alike."""

from collections.abc import Mapping, Sequence
from hashlib import sha1
from typing import Any

import numpy as np
import torch

from ...probe.loader_probe import SampleProbe
from .pixels import as_array, digest_of
from .sample_reader import Keys, boxes_in

_MOST_NUMBERS = 4096  # of a target; evenly spaced ones tell two masks apart as well as all of them

Digests = tuple[bytes, ...]


def target_digests(batch: Any, keys: Keys, count: int) -> Digests:
    """Return the digest of each of ``count`` targets of a batch; empty where they do not stand one by one."""
    targets = keys.target(batch)
    one_by_one = targets.ndim > 0 if isinstance(targets, torch.Tensor | np.ndarray) else type(targets) in (list, tuple)
    if not one_by_one or len(targets) != count:
        return ()
    return tuple(_digest(target, None, keys) for target in targets)


def item_target_digests(items: Sequence[Any], keys: Keys) -> Digests:
    """Return the digest of the target of each item."""
    return tuple(_digest(keys.target(item), item, keys) for item in items)


def item_digests(items: Sequence[Any], keys: Keys, samples: Sequence[SampleProbe], batch: Digests) -> Digests:
    """Return the digest of the image of each item; those of its samples where they are the batch's."""
    known = tuple(sample.digest for sample in samples)
    if set(known) == set(batch):
        return known
    # A transform with random numbers of its own gives another image each time.
    images = [(keys.image(item), as_array(keys.image(item))) for item in items]
    return tuple(b"" if array is None else digest_of(image, array) for image, array in images)


def _digest(target: Any, item: Any, keys: Keys) -> bytes:
    boxes = boxes_in(item if target is None else target, keys) if target is None or isinstance(target, Mapping) else {}
    array = boxes["boxes"] if boxes else as_array(target)
    if array is None:
        return b""
    # As one type, as collating turns numbers into tensors of another one.
    flat = array.reshape(-1)[:: max(1, array.size // _MOST_NUMBERS)].astype(np.float32)
    return sha1(flat.tobytes(), usedforsecurity=False).digest()[:16]
