"""What callbacks ask of a runner beyond Catalyst's own interface: one function per fact, with what stock runners do.

``RunnerView`` declares the facts. A ``DictRunner`` has all of them; Catalyst's own runners have few or none, so every
function here knows a default. It is the only module that looks up attributes of a runner by name: a renamed attribute
of ``DictRunner`` would turn a diagnostic off without an error, so a test holds the class to the protocol.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from catalyst import dl
from torch import Tensor
from torch.utils.data import DistributedSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler
from torch.utils.hooks import RemovableHandle

from ..errors import UsageError
from .host_copy import kept_from_loader
from .host_targets import HostTargets

History = Mapping[int, Mapping[str, Mapping[str, float]]]  # metrics by epoch, loader and name


@dataclass(frozen=True)
class BatchPlace:
    """The place of a batch in its loader, counted over all ranks.

    Attributes:
        batch: number of the batch, from 1.
        first_sample: number of its first sample, from 0.
    """

    batch: int
    first_sample: int


class Term(Protocol):
    """One term of the loss: which output it compares with which target, and by which criterion."""

    @property
    def label(self) -> str: ...
    @property
    def output(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def is_plain(self) -> bool: ...
    def pick_criterion(self, criterion: Any) -> Any: ...


class Average(Protocol):
    """A moving average of the weights."""

    def state_dict(self) -> dict[str, Any]: ...


class RunnerView(Protocol):
    """What callbacks ask of a runner beyond ``dl.IRunner``; each fact has its function in this module.

    Attributes:
        place: of the current batch.
        loader_batches: number of batches of the current loader, over all ranks.
        accumulate_steps: batches per optimizer step.
        losses: the terms of the loss.
        loss_counts_: of each loss of the batch that may count nothing, what it counts, [] each.
        grad_norm_: total norm of the gradients of the last step, before clipping by norm.
        clip_grad_norm: the largest norm; None where the runner does not clip by norm.
        host_targets: the targets of the batch as the loader gave them.
        input_key: what the models take from the batch.
        history: metrics of the epochs so far.
        ema_: the average that is validated; None where there is none.
        ema_decay: of that average; None where there is none.
        clip_grad_value: the largest value of a gradient; None where the runner does not clip by value.
        scheduler_step: whether the scheduler steps by ``batch`` or by ``epoch``.
    """

    @property
    def place(self) -> BatchPlace: ...
    @property
    def loader_batches(self) -> int: ...
    @property
    def accumulate_steps(self) -> int: ...
    @property
    def losses(self) -> Sequence[Term]: ...
    @property
    def loss_counts_(self) -> Mapping[str, Tensor]: ...
    @property
    def grad_norm_(self) -> Tensor | None: ...
    @property
    def clip_grad_norm(self) -> float | None: ...
    @property
    def host_targets(self) -> HostTargets: ...
    @property
    def input_key(self) -> str | Sequence[str] | Mapping[str, str | Sequence[str]]: ...
    @property
    def history(self) -> History: ...
    @property
    def ema_(self) -> Average | None: ...
    @property
    def ema_decay(self) -> float | None: ...
    @property
    def clip_grad_value(self) -> float | None: ...
    @property
    def scheduler_step(self) -> str: ...
    def forward(self, batch: Mapping[str, Any]) -> Mapping[str, Any]: ...
    def sample_losses(self, parts: Mapping[str, Any]) -> Tensor: ...
    def register_gradient_hook(self, hook: Callable[[], None]) -> RemovableHandle: ...


# -- the batch and its place in the loader ----------------------------------------------------------------------------


def place_in_loader(runner: dl.IRunner) -> BatchPlace:
    """Return the place of the current batch."""
    place: BatchPlace | None = getattr(runner, "place", None)
    if place is not None:
        return place
    # Catalyst's own runners count every batch once per rank; there the ranks take the batches in turn.
    ranks, rank = runner.engine.num_processes, runner.engine.process_index
    batches = runner.loader_batch_step - ranks
    before = batches * runner.loader_batch_size
    if _counts_samples(runner):
        before = runner.loader_sample_step - ranks * runner.batch_size
    return BatchPlace(batches + rank + 1, before + rank * runner.loader_batch_size)


def batch_of_run(runner: dl.IRunner) -> tuple[Any, ...]:
    """Return what no two batches of a run have in common: the loader, the epoch and the number of the batch."""
    return tuple(getattr(runner, name, None) for name in ("loader_key", "epoch_step", "loader_batch_step"))


def positions_in_loader(runner: dl.IRunner, count: int) -> range:
    """Return the positions in the loader of the samples of the current batch.

    Args:
        runner: whose batch it is.
        count: number of samples.
    """
    # The ``handle_batch`` of a stock runner may make more samples than the loader gave, as a GAN's does of true and
    # generated images. These are counted instead, with as many for each sample of the loader in every batch.
    first = place_in_loader(runner).first_sample * max(1, math.ceil(count / max(1, batch_size(runner))))
    return range(first, first + count)


def draws_order(runner: dl.IRunner) -> bool:
    """Return whether the current loader draws an order in each epoch, as far as a sampler of torch's tells."""
    return any(
        isinstance(one, RandomSampler | SubsetRandomSampler | WeightedRandomSampler)
        or (isinstance(one, DistributedSampler) and one.shuffle)
        for one in samplers_of(runner, runner.loader_key)
    )


def samplers_of(runner: dl.IRunner, loader_key: str) -> list[Any]:
    """Return the samplers of a loader, also those that the engine has wrapped."""
    return [*_samplers(runner.loaders[loader_key])]


def _samplers(part: Any) -> Iterator[Any]:
    for name in ("sampler", "batch_sampler"):
        if (inner := getattr(part, name, None)) is not None:
            yield inner
            yield from _samplers(inner)


def batches_in_loader(runner: dl.IRunner) -> int:
    """Return the number of batches of the current loader, over all ranks."""
    batches: int | None = getattr(runner, "loader_batches", None)
    return runner.loader_batch_len * runner.engine.num_processes if batches is None else batches


def steps_in_loader(runner: dl.IRunner) -> int:
    """Return how many optimizer steps the current train loader makes; a stock runner that accumulates makes fewer."""
    batches: int = runner.loader_batch_len
    return math.ceil(batches / accumulated_batches(runner))


def batch_size(runner: dl.IRunner) -> int:
    """Return the number of samples of the current batch."""
    if _counts_samples(runner):
        return int(runner.batch_size)
    # Catalyst's own runners take the length of the batch's first part, whatever that is: of two views in a list it
    # is 2. The first tensor with an axis is one row per sample, and so is, where there is no tensor, the first list.
    return next(_lengths(runner.batch.values()), int(runner.batch_size))


def samples_of_keys(runner: dl.IRunner, keys: Iterable[str]) -> int:
    """Return the number of samples of the first of the keys that the batch holds, or else of the batch.

    They differ where ``handle_batch`` puts other samples into the batch than the loader gave.
    """
    batch = runner.batch if isinstance(runner.batch, Mapping) else {}
    parts = [batch[key] for key in keys if key in batch]
    return next(_lengths(parts), batch_size(runner))


def host_targets(runner: dl.IRunner) -> HostTargets:
    """Return the targets of the current batch where they lie on the host; of a stock runner those of its batch."""
    known: HostTargets | None = getattr(runner, "host_targets", None)
    return known or HostTargets(runner.batch)


def kept_parts(runner: dl.IRunner, part: Any) -> Any:
    """Return a part of the current batch that stays as it is while the loader makes the next one."""
    known: HostTargets | None = getattr(runner, "host_targets", None)
    # Of a stock runner nobody knows what it has sent: all that is on a device may be the loader's.
    return kept_from_loader(part, runner.batch if known is None else known.given)


def _counts_samples(runner: dl.IRunner) -> bool:
    """Return whether the runner's own ``batch_size`` is the number of samples, and not the length of something else."""
    if hasattr(runner, "place") or not isinstance(runner.batch, Mapping):
        return True
    return isinstance(next(iter(runner.batch.values()), None), Tensor)


def _lengths(parts: Iterable[Any]) -> Iterator[int]:
    parts = list(parts)
    yield from (len(part) for part in parts if isinstance(part, Tensor) and part.ndim)
    yield from (length for part in parts if isinstance(part, Mapping) for length in _lengths(part.values()))
    yield from (len(part) for part in parts if isinstance(part, list | tuple))


# -- the model and the loss -------------------------------------------------------------------------------------------


def forward_of(runner: dl.IRunner) -> Callable[[Any], Any] | None:
    """Return the runner's way from a batch to its named outputs; ``dl.SupervisedRunner`` has one, others have none."""
    forward = getattr(runner, "forward", None)
    return forward if callable(forward) else None


def input_keys(runner: dl.IRunner) -> list[str]:
    """Return what the models take from the batch; nothing where the runner does not say."""
    name = "input_key" if hasattr(runner, "input_key") else "_input_key"  # the latter in Catalyst's own runners
    keys = getattr(runner, name, None)
    groups = list(keys.values()) if isinstance(keys, Mapping) else [keys]
    return [key for group in groups if group for key in ([group] if isinstance(group, str) else group)]


def loss_terms(runner: dl.IRunner) -> Sequence[Term] | None:
    """Return the terms of the loss; None where the runner does not declare any."""
    return getattr(runner, "losses", None)


def supervised_keys(runner: dl.IRunner) -> tuple[str | None, str | None, str | None]:
    """Return the keys of output, target and loss of a ``dl.SupervisedRunner``; None for each where it is none."""
    if _is_dict_runner(runner):
        return None, None, None
    keys = [getattr(runner, name, None) for name in ("_output_key", "_target_key", "_loss_key")]
    output, target, loss = (key if isinstance(key, str) else None for key in keys)
    return output, target, loss


def output_names(runner: dl.IRunner) -> Any:
    """Return the names that a ``dl.SupervisedRunner`` gives to what its model returns; None: it says none."""
    return None if _is_dict_runner(runner) else getattr(runner, "_output_key", None)


def named_batch(runner: dl.IRunner, batch: Any) -> Any:
    """Return a batch with the names that a ``dl.SupervisedRunner`` gives to what its loader yields."""
    name_parts = None if _is_dict_runner(runner) else getattr(runner, "_process_batch", None)
    return name_parts(batch) if callable(name_parts) else batch


def count_of_loss(runner: dl.IRunner, name: str) -> Tensor | None:
    """Return what a loss of the current batch counts, []; None where it is known to count something."""
    counts: Mapping[str, Tensor] = getattr(runner, "loss_counts_", {})
    return counts.get(name)


def sample_losses_of(runner: dl.IRunner) -> Callable[[Mapping[str, Any]], Tensor] | None:
    """Return the runner's own rule for the loss of each sample; None where its criterion is to be asked."""
    return getattr(runner, "sample_losses", None)


def averaged_weights(runner: dl.IRunner) -> dict[str, Any] | None:
    """Return the averaged weights by model, which are the validated ones; None where the runner averages none."""
    average: Average | None = getattr(runner, "ema_", None)
    return None if average is None else average.state_dict()["models"]


def trains_criterion(runner: dl.IRunner) -> bool:
    """Return whether the runner keeps a criterion's own parameters equal on all ranks."""
    return _is_dict_runner(runner)


# -- the optimizer's step ---------------------------------------------------------------------------------------------


def gradient_hooks_of(runner: dl.IRunner) -> Callable[[Callable[[], None]], RemovableHandle] | None:
    """Return what registers a hook on whole, unscaled gradients before they are clipped; None: there is no such."""
    return getattr(runner, "register_gradient_hook", None)


def clipping_norm(runner: dl.IRunner) -> float | None:
    """Return the norm that the runner clips to and keeps the norm before of; None where it does not."""
    # A stock runner may have a ``clip_grad_norm`` of its user's, without the norm that goes with it.
    return getattr(runner, "clip_grad_norm", None) if hasattr(runner, "grad_norm_") else None


def clipping_value(runner: dl.IRunner) -> float | None:
    """Return the value that the runner clips gradients to; None where it does not."""
    return getattr(runner, "clip_grad_value", None) if hasattr(runner, "grad_norm_") else None


def accumulated_batches(runner: dl.IRunner) -> int:
    """Return how many batches the runner itself gathers for a step; 1 where it does not say."""
    return int(getattr(runner, "accumulate_steps", 1))


def norm_before_clipping(runner: dl.IRunner) -> Tensor:
    """Return the total norm of the gradients of the last step, [], of a runner with a ``clipping_norm``."""
    norm: Tensor = runner.grad_norm_
    return norm


def loss_scale(runner: dl.IRunner) -> Tensor | None:
    """Return the loss scale, [], on the device; None where the engine has no scaler."""
    scaler = getattr(runner.engine, "scaler", None)
    if scaler is None:
        return None
    # ``scaler.get_scale`` would wait for the device.
    scale: Tensor = scaler.scale(torch.ones((), device=runner.engine.device))
    return scale


def scheduler_moment(runner: dl.IRunner) -> str | None:
    """Return whether the runner steps its scheduler by ``batch`` or by ``epoch``; None where callbacks step it."""
    # A project's own runner may have an attribute of that name.
    moment = getattr(runner, "scheduler_step", None) if _is_dict_runner(runner) else None
    return moment if isinstance(moment, str) else None


def ema_decay_of(runner: dl.IRunner) -> float | None:
    """Return the decay of the average of the weights that is validated; None where there is none."""
    return getattr(runner, "ema_decay", None) if _is_dict_runner(runner) else None


# -- the run ----------------------------------------------------------------------------------------------------------


def history_of(runner: dl.IRunner) -> History:
    """Return the metrics of the epochs so far, also of those before a resumed run; empty where none are kept."""
    history: History = getattr(runner, "history", {})
    return history


def is_resumed(runner: dl.IRunner) -> bool:
    """Return whether the run goes on from a checkpoint."""
    return getattr(runner, "_resume", None) is not None


def validated_metric(runner: dl.IRunner) -> tuple[str, str, bool] | None:
    """Return the loader, the metric and whether less is better, as ``train`` was given them; None: it was not."""
    names = ("_valid_loader", "_valid_metric", "_minimize_valid_metric")
    loader, metric, minimize = (getattr(runner, name, None) for name in names)
    return None if loader is None or metric is None else (loader, metric, bool(minimize))


def precision_of(runner: dl.IRunner) -> str:
    """Return the precision of the forward pass, such as ``fp32``."""
    mixed = getattr(runner.engine, "mixed_precision", "no")
    return "fp32" if mixed in (None, "no") else str(mixed)


def logdir_of(runner: dl.IRunner) -> Path | None:
    """Return the run folder; None where the run has none."""
    logdir = getattr(runner, "_logdir", None)  # Catalyst keeps it there, in ``train`` alone
    return None if logdir is None else Path(logdir)


def folder_in_run(runner: dl.IRunner, given: Path | None, name: str, asked_by: str) -> Path:
    """Return the folder given, or else the one of a name in the run folder.

    Raises:
        UsageError: there is neither.
    """
    if given is not None:
        return given
    logdir = logdir_of(runner)
    if logdir is None:
        raise UsageError(f"{asked_by} needs a folder to write to: pass folder=..., or train(logdir=...).")
    return logdir / name


def is_evaluation(runner: dl.IRunner) -> bool:
    """Return whether the run is that of Catalyst's ``evaluate_loader``, which takes no logger."""
    # It calls ``train`` with the loader as "valid" and nothing else; there is no other sign of it.
    settings = [getattr(runner, name, None) for name in ("_valid_loader", "_valid_metric", "_logdir", "_loggers")]
    return settings[0] == "valid" and not any(settings[1:]) and list(runner.loaders) == ["valid"]


def attributes_of(runner: dl.IRunner) -> dict[str, Any]:
    """Return all that the runner holds by name, for what stands in for it."""
    return dict(vars(runner))


# What stands in for a runner, in Catalyst's own tests and in ours, may lack even what Catalyst's interface declares.


def seeds_items(runner: Any) -> bool:
    """Return whether the runner seeds the generators for each item, as a ``DictRunner`` does."""
    return _is_dict_runner(runner)


def given_loaders(runner: Any) -> dict[str, Any]:
    """Return the loaders as the run was given them, before they are shared out among ranks, by key."""
    return dict(getattr(runner, "_loaders", None) or getattr(runner, "loaders", {}))


def loaders_of(runner: Any) -> list[str]:
    """Return the keys of the loaders of the epoch."""
    return list(getattr(runner, "loaders", ()))


def criterion_of(runner: Any) -> Any:
    """Return the criterion, one or several by name; None where there is none."""
    return getattr(runner, "criterion", None)


def callbacks_of(runner: Any) -> list[Any]:
    """Return the callbacks of the run."""
    return list(getattr(runner, "callbacks", {}).values())


def _is_dict_runner(runner: Any) -> bool:
    return hasattr(runner, "place")  # which no other runner knows
