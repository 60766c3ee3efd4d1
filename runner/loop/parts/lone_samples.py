"""Foresee in the first forward pass that BatchNorm will refuse a batch of one sample later in the epoch."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from assay.callbacks.errors import UsageError
from assay.callbacks.measures.grad_cam import undisturbed
from assay.callbacks.support.unwrap import by_name, plain_module

from .run_view import RunView

_REMEDY = "pass the loader drop_last=True, or choose another batch_size"
_TORCH_SAYS = "Expected more than 1 value per channel when training"


class _Watch(TorchFunctionMode):
    """Raises where a batch of one sample would be too small for a BatchNorm.

    Args:
        samples: number of samples of the current batch.
        message: of the error.
    """

    def __init__(self, samples: int, message: str):
        super().__init__()
        self.samples, self.message = samples, message

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        # The sizes of the current batch show how many values a channel has per sample; torch refuses a single one.
        if function is F.batch_norm and self._refuses(args[0], kwargs.get("training", args[5:6] == (True,))):
            raise UsageError(self.message)
        return function(*args, **kwargs)

    def _refuses(self, part: Tensor, training: bool) -> bool:
        return training and math.prod(part.shape) == part.shape[1] * self.samples


@contextmanager
def lone_sample_foreseen(runner: RunView, samples: int) -> Iterator[None]:
    """Watch the first forward pass on a loader for training, where a batch of one sample is to come on some rank.

    Args:
        runner: at a batch.
        samples: of the batch.

    Raises:
        UsageError: a layer refuses that batch; on all ranks alike.
    """
    shard: Any = runner.loader.batch_sampler
    if not runner.is_train_loader or getattr(shard, "lone_samples", 0) == 0 or shard.foreseen:
        yield
        return
    shard.foreseen = True  # all ranks look in the same round, so that all raise
    watch = _Watch(samples, _message(runner))
    models = [plain_module(runner.engine, model) for model in by_name(runner.model).values()]
    # Within a compiled model nothing can be watched: an eager pass before, which leaves no trace, is.
    if any(_is_compiled(model) for model in models):
        _try_out(runner, models, watch)
        yield
        return
    with watch:
        yield


def explain_lone_sample(error: BaseException, place: str) -> str | None:
    """Return what torch's refusal of a single sample means, where it could not be foreseen."""
    if not isinstance(error, ValueError) or not str(error).startswith(_TORCH_SAYS):
        return None
    return (
        f"a batch of one sample{place} came to a BatchNorm that has one value a channel for it, and cannot normalize "
        f"that: {_REMEDY}. Samples that on_bad_image leaves out make batches smaller too."
    )


def _message(runner: RunView) -> str:
    shard: Any = runner.loader.batch_sampler
    sizes = f"{shard.samples} samples"
    if shard.is_plain:
        sizes += f" in batches of {shard.batch_sampler.batch_size}"
    if shard.ranks > 1:
        sizes += f" on {shard.ranks} processes"
    remedy = _REMEDY if shard.is_plain else "let its batch_sampler leave such a batch out"
    return (
        f"loader {runner.loader_key!r} has a batch of one sample ({sizes}), and the model a BatchNorm that has one "
        f"value a channel for it, which torch refuses to normalize: {remedy}."
    )


def _is_compiled(model: torch.nn.Module) -> bool:
    return any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())


def _try_out(runner: RunView, models: list[torch.nn.Module], watch: _Watch) -> None:
    modes = [[(module, module.training) for module in model.modules()] for model in models]
    with ExitStack() as stack:
        stack.enter_context(undisturbed(models))
        # ``undisturbed`` evaluates, and BatchNorm refuses in training alone.
        for module, mode in (pair for of_model in modes for pair in of_model):
            module.training = mode
        stack.enter_context(torch.no_grad())
        stack.enter_context(watch)
        runner.forward(runner.batch)
