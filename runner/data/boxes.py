"""Make batches of images that have different numbers of boxes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate

from assay.callbacks.keys import TARGET_KEY

BOXES, LABELS, CROWDS = "bboxes", "labels", "iscrowd"
"""Keys of an item: boxes [M, 4], their labels [M], and, where a data set knows crowds, 0 or 1 for each box [M]."""


def collate_boxes(items: Sequence[Mapping[str, Any]], *, keep_crowds: bool = True) -> dict[str, Any]:
    """Return the batch of items, with ``target`` in place of their boxes; a ``collate_fn`` for loaders.

    ``target`` is a list of N dicts, as torchvision's detectors and ``BoxMetrics`` take them: ``boxes`` [M, 4], float32,
    ``labels`` [M], int64, and ``iscrowd`` [M], int64, where the items have it.

    Args:
        items: dicts of images of one size, ``bboxes`` [M, 4], ``labels`` [M] and anything that torch collates.
        keep_crowds: whether boxes around whole crowds stay. A detector must not learn from them; metrics need them.

    Example:
        >>> items = [{"image": torch.zeros(3, 8, 8), "bboxes": [[1, 2, 5, 6]], "labels": [1]}]
        >>> collate_boxes(items)["target"]
        [{'boxes': tensor([[1., 2., 5., 6.]]), 'labels': tensor([1])}]
    """
    plain = [{key: part for key, part in item.items() if key not in (BOXES, LABELS, CROWDS)} for item in items]
    batch: dict[str, Any] = default_collate(plain)
    batch[TARGET_KEY] = [_target(item, keep_crowds) for item in items]
    return batch


def _target(item: Mapping[str, Any], keep_crowds: bool) -> dict[str, Tensor]:
    boxes = torch.as_tensor(np.asarray(item[BOXES], dtype=np.float32).reshape(-1, 4))
    target = {"boxes": boxes, "labels": torch.as_tensor(np.asarray(item[LABELS], dtype=np.int64))}
    if CROWDS not in item:
        return target
    crowds = torch.as_tensor(np.asarray(item[CROWDS], dtype=np.int64))
    if keep_crowds:
        return target | {CROWDS: crowds}
    return {name: part[crowds == 0] for name, part in target.items()}
