"""Mends of Catalyst's engines for today's accelerate, for one process or several."""

import os
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import DistributedType
from catalyst import engines as stock
from catalyst.core import engine as core
from torch import nn
from torch.multiprocessing.spawn import spawn

from ..engine.engine import Engine, leave_group
from .fault import FAULTS, fault, is_mended, mend, replace_everywhere

_KINDS = (stock.CPUEngine, stock.GPUEngine, stock.DataParallelEngine)


@fault()
def process_kinds() -> bool:
    """Every run, and the CMC callbacks, ask accelerate for DistributedType.TPU, which is now called XLA."""
    if hasattr(DistributedType, "TPU"):
        return False
    setattr(DistributedType, "TPU", DistributedType.XLA)  # noqa: B010 - mypy takes no assignment to an enum
    return True


@fault()
def engines() -> bool:
    """Catalyst's engines reject fp16, lack a method for AUCCallback, and leave a criterion's weights on the CPU."""
    # New bases in place of new classes: projects subclass them, and have imported them by name.
    for kind in _KINDS:
        kind.__bases__ = (Engine,)
    core.Engine.use_fp16 = Engine.use_fp16
    replace_everywhere(core.Engine, Engine)
    return True


@fault()
def data_parallel() -> bool:
    """DataParallelEngine, Catalyst's default for several GPUs, lacks arguments that accelerate passes to its method."""
    stock.DataParallelEngine.prepare_model = _prepare_parallel
    return True


@fault()
def several_processes() -> bool:
    """DistributedDataParallelEngine starts processes beside those of torchrun, and works only on GPUs."""
    kind = stock.DistributedDataParallelEngine
    kind.__bases__ = (Engine,)
    kind.spawn, kind.setup, kind.cleanup = _spawn_processes, _set_up, _clean_up
    del kind.mean_reduce_ddp_metrics  # Engine's is right on one process too
    return True


def _prepare_parallel(engine: Any, model: nn.Module, *args: Any, **options: Any) -> nn.Module:
    """Replace ``DataParallelEngine.prepare_model``; one of several processes has a single GPU and needs no wrapper."""
    own = nn.DataParallel(model) if engine.distributed_type == DistributedType.NO else model
    prepared: nn.Module = Engine.prepare_model(engine, own, *args, **options)
    return prepared


def _spawn_processes(engine: Any, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Replace ``DistributedDataParallelEngine.spawn``; in a process that torchrun started, run without spawning."""
    if "WORLD_SIZE" in os.environ:
        return run(*args, **kwargs)
    # The same faults as here: some may have been left out.
    mended = tuple(name for name in FAULTS if is_mended(name))
    return spawn(_run_revived, (mended, run, engine._world_size), engine._num_local_workers)


def _run_revived(local_rank: int, mended: tuple[str, ...], run: Callable[..., Any], world_size: int) -> None:
    for name in mended:  # a spawned process imports Catalyst anew, as broken as before
        mend(name)
    run(local_rank, world_size)


def _set_up(engine: Any, local_rank: int, world_size: int) -> None:
    """Replace ``DistributedDataParallelEngine.setup``."""
    if local_rank >= 0:  # in a process that Catalyst started
        rank = engine._workers_global_rank + local_rank
        group = {"MASTER_ADDR": engine._address, "MASTER_PORT": engine._port, "WORLD_SIZE": world_size}
        group |= {"RANK": rank, "LOCAL_RANK": local_rank}
        os.environ.update({name: str(value) for name, value in group.items()})
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(**{"backend": backend, "world_size": world_size, **engine._process_group_kwargs})
    Engine.__init__(engine, *engine._args, **engine._kwargs)


def _clean_up(engine: Any) -> None:
    """Replace ``DistributedDataParallelEngine.cleanup``."""
    leave_group()
