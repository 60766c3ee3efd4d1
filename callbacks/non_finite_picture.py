"""Choosing what is drawn of a batch with NaN or infinite values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from .non_finite_record import Record

_MOST_SAMPLES = 16


def samples_to_draw(record: Record, keys: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the first samples of a batch as host values for ``draw_samples``, those to blame in front.

    Args:
        record: the batch.
        keys: of the batch, by the name that the drawing has for it: ``image``, ``target``, ``output``.

    Returns:
        None where the batch has no images.
    """
    parts = {**record.named_inputs(), **record.outputs}
    if not _is_image(parts.get(keys["image"])):
        return None
    blamed, order = record.broken_first()
    ids, order = record.ids(), order[:_MOST_SAMPLES]
    samples: dict[str, Any] = {"sample_id": [ids[index] for index in order]}
    if len(blamed) < len(ids):
        samples["caption"] = ["NaN or Inf" if index in blamed else "" for index in order]
    for name, key in keys.items():
        part = parts.get(key)
        if isinstance(part, Tensor) and part.ndim and len(part) == len(ids):
            samples[name] = _to_numpy(part[order])
    return samples


def _is_image(part: Any) -> bool:
    return isinstance(part, Tensor) and part.ndim in (3, 4) and not part.is_complex()


def _to_numpy(part: Tensor) -> np.ndarray:
    part = part.detach().cpu()
    return (part.float() if part.is_floating_point() else part).numpy()
