"""The first module whose output is not finite, found by running a model again on one batch."""

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
    """Return the first module whose output is not finite, in words; None where the outputs are all finite.

    The forward pass is repeated with the weights as they are now and the generators as they were; afterwards buffers
    and generators stand as before. On several ranks each calls this, as a model may talk to the others.

    Args:
        runner: a runner with ``forward(batch)``, as ``dl.SupervisedRunner`` and ``DictRunner`` have it; without, the
            answer is None.
        record: the batch.
        before: the buffers as they were before the batch; of none, they are taken as they are.
    """
    forward = forward_of(runner)
    if forward is None or not isinstance(record.inputs, Mapping):
        return None
    # Without DDP and ``torch.compile``: the one would wait for other ranks, the other passes hooks by.
    with use_plain_modules(runner) as models:
        # A forward pass moves buffers, as BatchNorm does; the run goes on with those that it had.
        now = BufferSnapshot(buffer for model in models.values() for buffer in model.buffers())
        now.take()
        before.restore()
        try:
            return _run_again(forward, record, models)
        finally:
            now.restore()


def _run_again(forward: Callable[[Any], Any], record: Record, models: Mapping[str, nn.Module]) -> str | None:
    watch = _Watch()
    handles = [
        module.register_forward_hook(watch.hook(".".join(filter(None, (key, eager_name(name))))))
        for key, model in models.items()
        for name, module in model.named_modules()
    ]
    try:
        # A model that is compiled in place would compile the hooks too.
        with record.rng.again(), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            forward(record.inputs)
    finally:
        for handle in handles:
            handle.remove()
    return watch.found


class _Watch:
    """Forward hooks that note the first output that is not finite; inner modules return before outer ones."""

    def __init__(self) -> None:
        self.found: str | None = None

    def hook(self, name: str) -> Any:
        def look(module: nn.Module, _: Any, output: Any) -> None:
            tensors = [tensor for _, tensor in float_tensors(output)]
            if self.found is None and tensors and bool(flag_values(tensors).any()):
                kind = type(module).__name__
                self.found = f"module {name!r} ({kind})" if name else f"the model itself ({kind})"

        return look
