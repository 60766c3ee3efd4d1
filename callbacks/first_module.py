"""Running a model again on one batch, to find where its values stopped being finite."""

from collections.abc import Mapping
from typing import Any

import torch
from catalyst import dl
from torch import nn

from .buffer_snapshot import BufferSnapshot
from .measures.non_finite import flag_values
from .non_finite_report import Record, float_tensors
from .unwrapped import by_name


def first_module(runner: dl.IRunner, record: Record, before: BufferSnapshot | None) -> str | None:
    """Return the first module whose output is not finite, in words; None where the outputs are all finite.

    The forward pass is repeated with the weights as they are now and the generators as they were; afterwards buffers
    and generators stand as before. On several ranks each calls this, as a model may talk to the others.

    Args:
        runner: a runner with ``forward(batch)``, as ``dl.SupervisedRunner`` and ``DictRunner`` have it; without, the
            answer is None.
        record: the batch.
        before: the buffers as they were before the batch; None: as they are.
    """
    if not callable(getattr(runner, "forward", None)) or not isinstance(record.inputs, Mapping):
        return None
    models = {name: plain_model(runner, model) for name, model in by_name(runner.model).items()}
    now = BufferSnapshot(buffer for model in models.values() for buffer in model.buffers())
    now.take()
    if before is not None:
        before.restore()
    try:
        return _run_again(runner, record, models)
    finally:
        now.restore()


def plain_model(runner: dl.IRunner, model: nn.Module) -> nn.Module:
    """Return the module that the user built.

    A distributed one talks to the other ranks in its forward pass, and a compiled one passes hooks by.
    """
    unwrapped: nn.Module = runner.engine.unwrap_model(model)
    return getattr(unwrapped, "_orig_mod", unwrapped)


def _run_again(runner: dl.IRunner, record: Record, models: Mapping[str, nn.Module]) -> str | None:
    watch = _Watch()
    handles = [
        module.register_forward_hook(watch.hook(".".join(filter(None, (key, name)))))
        for key, model in models.items()
        for name, module in model.named_modules()
    ]
    prepared = runner.model
    runner.model = dict(models) if isinstance(prepared, Mapping) else models[""]
    try:
        with record.rng.again(), torch.no_grad():
            runner.forward(record.inputs)
    finally:
        runner.model = prepared
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
