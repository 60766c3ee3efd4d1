"""Finds the first module whose output is not finite, by running the model again on one batch."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from catalyst import dl
from torch import nn

from ..measures.non_finite import flag_values
from ..support.buffer_snapshot import BufferSnapshot
from ..support.runner_view import forward_of
from ..support.unwrap import eager_name, use_plain_modules
from .record import Record, float_tensors


def first_non_finite_module(runner: dl.IRunner, record: Record, before: BufferSnapshot) -> str | None:
    """Return the first module whose output is not finite, in words; None if all outputs are finite.

    The forward pass is repeated with the weights as they are now and the random generators as they were. Afterwards
    buffers and generators are as before. A collective: the model may communicate with other ranks, as with
    SyncBatchNorm.

    Args:
        runner: a runner with ``forward(batch)``, such as ``dl.SupervisedRunner`` and ``DictRunner``; for any other the
            answer is None.
        record: the batch.
        before: the buffers as they were before the batch; buffers that it does not hold are used as they are.
    """
    forward = forward_of(runner)
    if forward is None or not isinstance(record.inputs, Mapping):
        return None
    # Without DDP, whose pass would wait for other ranks, and without ``torch.compile``, which ignores these hooks.
    with use_plain_modules(runner) as models:
        # A forward pass changes buffers, such as BatchNorm's; the run continues with those that it had.
        now = BufferSnapshot(buffer for model in models.values() for buffer in model.buffers())
        now.take()
        before.restore()
        try:
            return _run_again(forward, record, models)
        finally:
            now.restore()


def _run_again(forward: Callable[[Any], Any], record: Record, models: Mapping[str, nn.Module]) -> str | None:
    watch = _OutputWatch()
    handles = [
        module.register_forward_hook(watch.hook(".".join(filter(None, (key, eager_name(name))))))
        for key, model in models.items()
        for name, module in model.named_modules()
    ]
    try:
        # Eager, as a model that is compiled in place would compile the hooks too.
        with record.rng.again(), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            forward(record.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return watch.found


class _OutputWatch:
    """Forward hooks that keep the first module whose output is not finite."""

    # Inner modules return before those that contain them, so the first one found is the innermost.

    def __init__(self) -> None:
        self.found: str | None = None

    def hook(self, name: str) -> Any:
        def check_output(module: nn.Module, _: Any, output: Any) -> None:
            tensors = [tensor for _, tensor in float_tensors(output)]
            if self.found is None and tensors and bool(flag_values(tensors).any()):
                kind = type(module).__name__
                self.found = f"module {name!r} ({kind})" if name else f"the model itself ({kind})"

        return check_output
