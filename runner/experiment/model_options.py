"""Apply options to a model before training: memory layout, synchronized normalization, compilation."""

from typing import Any

import torch
from torch import nn

from assay.callbacks.errors import UsageError
from assay.callbacks.support.unwrap import by_name


def prepare_model(
    model: Any, device: torch.device, ranks: int, *, channels_last: bool, sync_batchnorm: bool, compile_model: bool
) -> Any:
    """Return a model, or several by name, with the options applied.

    Args:
        model: a module, or several by name.
        device: where it will be trained.
        ranks: number of processes.
        channels_last: whether to store weights of convolutions as [N, H, W, C], which GPUs read faster.
        sync_batchnorm: whether to normalize over the batches of all ranks; with one rank nothing changes.
        compile_model: whether to compile each model with ``torch.compile`` when it first runs.

    Raises:
        UsageError: ``sync_batchnorm`` is requested for several processes without GPUs.
    """
    if sync_batchnorm and ranks > 1 and device.type != "cuda":
        raise UsageError(f"sync_batchnorm needs GPUs: torch's SyncBatchNorm does not run on {device.type!r}.")
    models = {name: _prepare_one(part, ranks, channels_last, sync_batchnorm) for name, part in by_name(model).items()}
    if compile_model:
        for part in models.values():
            part.compile()  # in place: torch.compile(model) would prefix the names of the weights
    return models if isinstance(model, dict) else models[""]


def _prepare_one(model: nn.Module, ranks: int, channels_last: bool, sync_batchnorm: bool) -> nn.Module:
    if sync_batchnorm and ranks > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model.to(memory_format=torch.channels_last) if channels_last else model  # type: ignore[call-overload,no-any-return]
