"""What may be done to a model before it is trained: memory layout, synchronized normalization, compilation."""

from typing import Any

import torch
from torch import nn

from assay.callbacks.errors import UsageError
from assay.callbacks.unwrapped import by_name


def prepare_model(
    model: Any, device: torch.device, ranks: int, *, channels_last: bool, sync_batchnorm: bool, compile_model: bool
) -> Any:
    """Return a model, or several by name, with the options applied.

    Args:
        model: a module, or several by name.
        device: where it will be trained.
        ranks: number of processes.
        channels_last: store weights of convolutions as [N, H, W, C], which GPUs read faster.
        sync_batchnorm: normalize over the batches of all ranks; of one rank it is left as it is.
        compile_model: compile each model when it first runs, by ``torch.compile``.

    Raises:
        UsageError: ``sync_batchnorm`` is asked for on several processes without GPUs.
    """
    if sync_batchnorm and ranks > 1 and device.type != "cuda":
        raise UsageError(f"sync_batchnorm needs GPUs: torch's SyncBatchNorm does not run on {device.type!r}.")
    models = {name: _prepared(part, ranks, channels_last, sync_batchnorm) for name, part in by_name(model).items()}
    if compile_model:
        for part in models.values():
            part.compile()  # in place, so that the names of the weights stay
    return models if isinstance(model, dict) else models[""]


def _prepared(model: nn.Module, ranks: int, channels_last: bool, sync_batchnorm: bool) -> nn.Module:
    if sync_batchnorm and ranks > 1:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return model.to(memory_format=torch.channels_last) if channels_last else model  # type: ignore[call-overload,no-any-return]
