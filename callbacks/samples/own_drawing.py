"""OwnDrawing: draws samples by a function of the user's."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..drawings.own_pictures import draw_own_pictures
from ..errors import UsageError

VisualizeBatch = Callable[[dict[str, Any]], Any]


class OwnDrawing:
    """Draws samples by a function of the user's, in place of ``drawings.samples.draw_samples``.

    Args:
        visualize_batch: see ``BestWorstBatches``.

    Raises:
        UsageError: ``visualize_batch`` is not a function.
    """

    def __init__(self, visualize_batch: VisualizeBatch):
        if not callable(visualize_batch):
            raise UsageError(f"visualize_batch must be a function of a batch, got {visualize_batch!r}.")
        self.visualize_batch = visualize_batch

    def parts(self, batch: Mapping[str, Any], size: int) -> dict[str, Any]:
        """Return what is kept of a batch of ``size`` samples: everything with one entry per sample."""
        return {"batch": entries_by_sample(batch, size)}

    def __call__(self, samples: Mapping[str, Any], title: Sequence[str]) -> np.ndarray:
        """Draw samples as ``draw_samples`` does; their ``batch`` is what ``parts`` returned, or one such per sample."""
        batch = samples["batch"]
        batch = dict(batch) if isinstance(batch, Mapping) else _collate(batch)
        scores = {"loss": samples["loss"]} if "loss" in samples else samples.get("scores", {})
        pictures = self.visualize_batch(_as_tensors({**scores, **batch}))
        names = [str(name) for name in samples["sample_id"]]
        return draw_own_pictures(pictures, title, _captions(samples), names)


def entries_by_sample(batch: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the entries of a batch with one value per sample: tensors, arrays, lists, and dicts of these."""
    # What has another length, such as a loss of the batch, belongs to no single sample.
    kept: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, Mapping):
            kept[name] = entries_by_sample(value, size)
        elif isinstance(value, Tensor | np.ndarray) and value.ndim and len(value) == size:
            kept[name] = value
        elif isinstance(value, list | tuple) and len(value) == size:
            kept[name] = list(value)
    return kept


def _collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # Samples of a ranking come from different batches, one by one, and the function takes a batch.
    return {name: _collate_values([sample[name] for sample in samples]) for name in samples[0]}


def _collate_values(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return _collate(values)
    # Samples of different sizes stay a list, as a loader gives them.
    numeric = isinstance(values[0], np.ndarray | np.generic | int | float) and not isinstance(values[0], str)
    return np.stack(values) if numeric and len({np.shape(value) for value in values}) == 1 else list(values)


def _as_tensors(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: _as_tensors(value) for name, value in part.items()}
    if isinstance(part, list):
        return [_as_tensors(value) for value in part]
    # The function gets tensors, as it would from the runner; torch has no arrays of text.
    numeric = isinstance(part, np.ndarray) and part.dtype.kind in "biufc"
    return torch.from_numpy(np.ascontiguousarray(part)).reshape(part.shape) if numeric else part


def _captions(samples: Mapping[str, Any]) -> list[list[str]]:
    """Return the lines below each sample: its caption or its loss."""
    if "caption" in samples:
        return [caption.splitlines() for caption in samples["caption"]]
    losses = samples.get("loss")
    return [[] for _ in samples["sample_id"]] if losses is None else [[f"loss {loss:.4g}"] for loss in losses]
