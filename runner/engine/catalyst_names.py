"""Engines under Catalyst's names, for projects that use those: only an import changes."""

import logging
import os
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import InitProcessGroupKwargs

from assay.callbacks.errors import UsageError, unknown_name

from .engine import Engine

# Arguments of init_process_group that torchrun does not set in the environment.
_GROUP = ("backend", "init_method", "timeout")
_log = logging.getLogger("assay")


class CPUEngine(Engine):
    """An engine on the CPU; the arguments are those of ``Engine``."""

    def __init__(self, **options: Any):
        # A default, so that a config of Catalyst's that passes cpu itself still works.
        super().__init__(**{"cpu": True, **options})


class GPUEngine(Engine):
    """An engine on one GPU; the arguments are those of ``Engine``.

    Where there is no GPU it is on the CPU, as Catalyst's is, and a warning says so.
    """

    def __init__(self, **options: Any):
        if not torch.cuda.is_available():
            _log.warning("%s runs on the CPU: there is no GPU that torch can use.", type(self).__name__)
        super().__init__(**options)


class DataParallelEngine(GPUEngine):
    """An engine on the only GPU; the arguments are those of ``Engine``.

    Raises:
        UsageError: there are several GPUs: each is to have a process of its own.
    """

    def __init__(self, **options: Any):
        _refuse_alone(type(self).__name__, torch.cuda.device_count())
        super().__init__(**options)


class DistributedDataParallelEngine(Engine):
    """An engine of one process among those that ``torchrun`` started; it starts none itself.

    Args:
        address: where the processes meet; ``torchrun`` knows it.
        port: where the processes meet; ``torchrun`` knows it.
        world_size: how many processes there are; None: as many as ``torchrun`` started.
        workers_dist_rank: of the first process of this machine; ``torchrun`` knows it.
        num_node_workers: processes of this machine; ``torchrun`` knows it.
        process_group_kwargs: ``backend``, ``init_method`` and ``timeout`` of ``torch.distributed.init_process_group``.
        options: arguments of ``Engine``.

    Raises:
        UsageError: the processes are to be several, and are not started yet; their number is another.
    """

    def __init__(
        self,
        *,
        address: str = "127.0.0.1",
        port: str | int = 2112,
        world_size: int | None = None,
        workers_dist_rank: int = 0,
        num_node_workers: int | None = None,
        process_group_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ):
        # Catalyst's engine starts a process per GPU: a lone one is refused, and does not train on one GPU unnoticed.
        wanted = world_size or num_node_workers or torch.cuda.device_count() or 1
        if (started := os.environ.get("WORLD_SIZE")) is None:
            _refuse_alone(type(self).__name__, wanted)
        elif world_size is not None and world_size != int(started):
            raise UsageError(f"world_size must be the {started} of the processes that were started, got {world_size}.")
        group = _group_options(process_group_kwargs or {})
        if started is not None:  # a process alone has no group
            options["kwargs_handlers"] = [*options.get("kwargs_handlers", []), group]
        super().__init__(**options)


def _refuse_alone(name: str, processes: int) -> None:
    if processes > 1:
        raise UsageError(
            f"{name} needs {processes} processes, a GPU each: start the script by 'torchrun --standalone "
            f"--nproc-per-node {processes} SCRIPT', with Engine() or DistributedDataParallelEngine() in it."
        )


def _group_options(given: Mapping[str, Any]) -> InitProcessGroupKwargs:
    for name in given:
        if name not in _GROUP:
            raise unknown_name("process_group_kwargs", name, _GROUP, note=" (torchrun knows rank and world size)")
    return InitProcessGroupKwargs(**given)
