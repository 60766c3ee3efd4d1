"""Mends of Catalyst's CheckpointCallback."""

from pathlib import Path
from typing import Any

import torch.distributed as dist
from catalyst import dl
from catalyst.callbacks import checkpoint
from catalyst.utils.distributed import get_nn_from_ddp_module

from assay.callbacks.keys import pick

from .fault import fault


@fault()
def best_checkpoint() -> bool:
    """CheckpointCallback writes the weights of the last epoch into model.best.pth, whichever epoch was the best."""
    dl.CheckpointCallback.on_epoch_end_best = end_epoch
    return True


@fault()
def one_writer() -> bool:
    """Every process writes the checkpoint of a run with several models, or of mode "runner", into the same file."""
    # In the module of the callback, which has imported the function by name.
    save = checkpoint.save_checkpoint

    def save_once(content: Any, path: str) -> None:
        if not dist.is_initialized() or dist.get_rank() == 0:
            save(content, path)
        if dist.is_initialized():
            dist.barrier()  # nobody goes on to read the file before it is complete

    checkpoint.save_checkpoint = save_once
    return True


@fault()
def resuming() -> bool:
    """On several processes CheckpointCallback cannot resume: it loads plain weights into the wrapped model."""
    unpack = checkpoint.unpack_checkpoint

    def unpack_into_plain(checkpoint: Any, model: Any = None, **others: Any) -> None:
        if isinstance(model, dict):
            plain = {name: get_nn_from_ddp_module(one) for name, one in model.items()}
        else:
            plain = get_nn_from_ddp_module(model)
        unpack(checkpoint, model=plain, **others)

    checkpoint.unpack_checkpoint = unpack_into_plain
    return True


def end_epoch(callback: Any, runner: Any) -> None:
    """Replace ``CheckpointCallback.on_epoch_end_best``: write the best file only in the epoch that is the best."""
    metrics = runner.epoch_metrics if callback.loader_key is None else runner.epoch_metrics[callback.loader_key]
    score = pick(metrics, callback.metric_key, "CheckpointCallback(metric_key=...)", source_name="metrics of the epoch")
    # Catalyst's own ranking and its file of the epoch; only the best file is written here.
    callback._handle_epoch(runner=runner, score=score)
    best = callback._storage[0]  # holds the live model, not a copy: its weights are always those of this epoch
    this_epoch = Path(callback.logdir, f"{callback.mode}.{runner.epoch_step:04d}.pth")
    if callback.save_best and Path(best.logpath) == this_epoch:
        callback._save(runner, best.obj, f"{callback.logdir}/{callback.mode}.best")
