"""Catalyst's engine on today's accelerate: device, precision, and the ranks of a run."""

import atexit
import time
import weakref
from collections.abc import Callable, Collection
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, is_initialized
from catalyst.core.engine import Engine as CatalystEngine
from torch import nn
from torch.optim import Optimizer

from assay.callbacks.errors import UsageError
from assay.callbacks.support.distributed import mean_over_ranks
from assay.callbacks.support.runner_view import trains_criterion
from assay.callbacks.support.unwrap import plain_module

from ..choices import DEVICES, PRECISIONS
from ..recipe.criteria import own_parameters, to_device
from .engine_arguments import accelerator_options, chosen_device, chosen_precision

__all__ = ["DEVICES", "PRECISIONS", "Engine"]

_RELEASE_S = 0.2  # seconds, in which a thread that waits for Python has its turn, on a loaded machine too


class Engine(CatalystEngine):
    """An engine for any Catalyst runner, a stock ``dl.SupervisedRunner`` included.

    Catalyst 22.4's own engine fails at the end of the first loader with accelerate 0.20 and newer.

    Args:
        device: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        precision: ``fp32``; ``tf32`` (fp32 with faster matrix products on GPUs that have them); ``bf16`` or
            ``fp16`` (the forward pass in half precision, ``fp16`` with loss scaling, on a GPU only). None: what
            ``accelerate launch`` was given, else ``fp32``.
        cpu: Catalyst's word for ``device="cpu"``.
        fp16: Catalyst's word for ``precision="fp16"``.
        mixed_precision: accelerate's word for it: ``no``, ``bf16`` or ``fp16``.
        options: any other argument of ``accelerate.Accelerator``, of today or of Catalyst's time.

    Raises:
        UsageError: the device or precision is unknown or missing on this machine, two arguments contradict each
            other, one is unknown, or another engine of this process already decided otherwise.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str | None = None,
        *,
        cpu: bool = False,
        fp16: bool | None = None,
        mixed_precision: Any = None,
        **options: Any,
    ):
        on_cpu = chosen_device(device, cpu) == "cpu" or not torch.cuda.is_available()
        precision = chosen_precision(precision, mixed_precision, fp16)
        if on_cpu and precision == "fp16":
            raise UsageError("precision 'fp16' needs a GPU; on a CPU choose 'bf16' or 'fp32'.")
        # accelerate knows no tf32, which is no autocast but a mode of torch's matrix products.
        mixed = precision if precision in ("bf16", "fp16") else "no"
        options = accelerator_options(options)
        _check_process_state(on_cpu, mixed)
        # Set either way: an engine before this one may have allowed it, and torch keeps it for the process.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        self._runner: Any = None
        super().__init__(cpu=on_cpu, mixed_precision=mixed, **options)
        if self.num_processes > 1 and self.device.type == "cpu":
            # gloo's threads abort a process now and then that exits while they run; NCCL's group may block instead.
            atexit.register(leave_group_at_exit)

    def spawn(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a runner's ``fn``, as Catalyst does, and remember whose it is: its criterion goes to the device."""
        runner = getattr(fn, "__self__", None)
        # Weakly, as the runner holds the engine.
        self._runner = None if runner is None else weakref.ref(runner)
        return super().spawn(fn, *args, **kwargs)

    def prepare(self, *parts: Any, **options: Any) -> Any:
        """Prepare models, optimizers and loaders, as accelerate does, and then the criterion of the runner too."""
        # Neither Catalyst nor accelerate moves a criterion. Catalyst makes it before it prepares the model.
        prepared = super().prepare(*parts, **options)
        if any(isinstance(part, nn.Module) for part in parts):
            self._place_criterion()
        return prepared

    def _place_criterion(self) -> None:
        runner = None if self._runner is None else self._runner()
        if runner is None or runner.criterion is None:
            return
        runner.criterion = to_device(runner.criterion, self.device)
        trained = any(parameter.requires_grad for parameter in own_parameters(runner.criterion))
        if trained and self.num_processes > 1 and not trains_criterion(runner):
            raise UsageError(
                f"the criterion has parameters of its own, and on several processes a {type(runner).__name__} trains "
                "them apart: use a DictRunner, or make them a part of the model."
            )

    def prepare_anew(self, model: nn.Module, *, evaluation_mode: bool = False) -> nn.Module:
        """Prepare a model that may be prepared already: what is wrapped around it is taken off first.

        Args:
            model: with or without wrappers.
            evaluation_mode: whether it is for evaluation alone, and so without DDP.
        """
        # Without the precision's wrapper too: prepared twice, ``forward`` would be wrapped twice.
        plain = self.unwrap_model(plain_module(self, model), keep_fp32_wrapper=False)
        prepared: nn.Module = self.prepare_model(plain, evaluation_mode=evaluation_mode)
        return prepared

    @property
    def use_fp16(self) -> bool:
        """Whether the forward pass runs in fp16; Catalyst's ``AUCCallback`` asks for it."""
        return bool(self.mixed_precision == "fp16")

    def unscale_optimizers(self, optimizers: Collection[Optimizer]) -> None:
        """Take the loss scale out of the gradients, where there is one; once per step."""
        # torch refuses a second time before the scaler's update.
        if self.scaler is not None:
            for optimizer in optimizers:
                self.scaler.unscale_(optimizer)

    def step_optimizers(self, optimizers: Collection[Optimizer]) -> None:
        """Make the step of all optimizers, as torch knows them, and free the gradients."""
        # Not by accelerate, which updates the scaler after each optimizer: the next one would be unscaled wrong.
        for optimizer in optimizers:
            if self.scaler is None:
                optimizer.step()
            elif _has_gradients(optimizer):  # a scaler refuses one without
                self.scaler.step(optimizer)
        if self.scaler is not None:
            self.scaler.update()
        for optimizer in optimizers:
            optimizer.zero_grad()

    def mean_reduce_ddp_metrics(self, metrics: dict[str, Any]) -> dict[str, Any]:
        """Return the mean of each metric over ranks; Catalyst's own metric callbacks ask for it."""
        if self.num_processes == 1:
            return metrics
        return dict(mean_over_ranks(metrics, self.device))


def _has_gradients(optimizer: Optimizer) -> bool:
    return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])


def leave_group() -> None:
    """Leave the process group, which ends its threads."""
    if dist.is_initialized():
        dist.destroy_process_group()


def leave_group_at_exit() -> None:
    """Leave the process group where Python is about to end."""
    leave_group()
    # A thread of gloo may still have to release the tensors of the last collective, for which it needs Python. Once
    # Python ends, that thread would abort the process (SIGABRT) after its work. Asleep, this one lets it go on.
    time.sleep(_RELEASE_S)


def _check_process_state(on_cpu: bool, mixed_precision: str) -> None:
    # accelerate keeps device and precision for the whole process, and its own error does not say what to do.
    if not is_initialized():
        return
    state = AcceleratorState()
    if state.mixed_precision != mixed_precision or (on_cpu and state.device.type != "cpu"):
        raise UsageError(
            f"this process already runs on {state.device.type!r} with mixed precision {state.mixed_precision!r}, and "
            "accelerate cannot change that: start a new process (in a notebook, restart the kernel)."
        )
