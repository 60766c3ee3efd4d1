"""The loss of each sample of a batch, from a criterion that returns the loss of the whole batch."""

import copy
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from catalyst import dl
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from ..errors import UsageError, listing, unknown_name
from .runner_view import batch_of_run, loss_terms, sample_losses_of
from .target_mean import TargetMean, class_numbers, target_mean
from .undone import undone

Found = TypeVar("Found")
Criterion = Callable[[Tensor, Tensor], Tensor]
RowCriterion = tuple[str, int, float]  # plain values, as what waits for its losses may go through a checkpoint

# Both are numbers, because they travel in tensors of losses that nothing reads within the step.
NO_SCORE = -math.inf
"""The score of a sample, or a batch, in which no target counts: it is neither good nor bad."""

WHOLE_BATCH = torch.finfo(torch.float32).min
"""The loss of every sample if only the whole batch has one; see ``sample_losses``."""


_PLAIN = (str, int, float, bool, type(None))
# Of each runner its current batch, and what callbacks share of what they found of it.
_found: WeakKeyDictionary[Any, tuple[Any, dict[Any, Any]]] = WeakKeyDictionary()


class NoSampleLossError(UsageError):
    """The criterion gives no loss of one sample alone."""


@torch.no_grad()
def sample_losses(
    criterion: Criterion, output: Tensor, target: Any, *, uncounted: float = math.nan, all_count: bool = False
) -> Tensor:
    """Return the loss of each sample: what the criterion gives for it alone.

    A loss of torch is computed once, unreduced, and then reduced over all axes but the first: to the sum, or to the
    mean over the targets that count (with one target per sample, class weights cancel). Any other criterion is called
    for each sample, as a batch of one, unless it has a method ``sample_losses``, which is called instead; in samples
    for which its ``count_targets``, if there is one, returns 0, no target counts. Whatever a call changes or draws at
    random is undone. A criterion that compares samples (triplets, contrastive) has no loss for one of them, and each
    sample gets ``WHOLE_BATCH``. It is recognized by losses of samples that are all NaN or infinite, all 0, or all equal
    for different outputs, while that of the batch differs from them; or by a loss of the batch that exceeds their sum.

    Args:
        criterion: maps ``(output, target)`` to a loss.
        output: [N, ...].
        target: [N, ...], or a dict or list of such.
        uncounted: the loss of a sample in which no target counts, as all are ``ignore_index``.
        all_count: whether all targets are known to be other than ``ignore_index``, which saves looking at them.

    Returns:
        [N], on the device of ``output``, without a graph.

    Raises:
        UsageError: the criterion returns other than one number for one sample.
        NoSampleLossError: the criterion fails for one sample, or for output and target alone.
    """
    try:
        return _losses_by_kind(criterion, output, target, uncounted, all_count)
    except (UsageError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # a criterion of the user's may raise anything
        raise _no_sample_loss(criterion, output, target, error) from error


def _losses_by_kind(criterion: Criterion, output: Tensor, target: Any, uncounted: float, all_count: bool) -> Tensor:
    if hasattr(criterion, "sample_losses"):
        own: Tensor = criterion.sample_losses(output, target)
        if hasattr(criterion, "count_targets"):
            return own.masked_fill(criterion.count_targets(target) == 0, uncounted)
        return own
    mean = target_mean(criterion)
    if mean is not None and output.ndim > 1 and len(output):
        return _over_targets(mean, output, target, uncounted, all_count)
    if _is_torchs_own(criterion):
        # On a copy: the run goes on with the criterion as it is.
        unreduced: Any = copy.copy(criterion)
        unreduced.reduction = "none"
        losses = unreduced(output, target)
        if isinstance(losses, Tensor) and losses.ndim and len(losses) == len(output):
            rows = losses.reshape(len(output), -1)
            return rows.mean(dim=1) if getattr(criterion, "reduction", "") == "mean" else rows.sum(dim=1)
    return _one_by_one(criterion, output, target)


def _over_targets(mean: TargetMean, output: Tensor, target: Tensor, uncounted: float, all_count: bool) -> Tensor:
    target = class_numbers(target)
    losses = mean.each(output, target)
    if losses.ndim == 1 and mean.weight is None:
        if all_count or target.is_floating_point():
            return losses
        return losses.masked_fill(target == mean.ignore_index, uncounted)
    sums, counts = losses.reshape(len(losses), -1).sum(dim=1), mean.counts(target)
    return (sums if mean.adds_up else sums / counts).masked_fill(counts == 0, uncounted)


def _is_torchs_own(criterion: Any) -> bool:
    """Whether a criterion is a loss of ``torch.nn``, whose unreduced values belong to one sample each."""
    if not isinstance(criterion, nn.Module) or not hasattr(criterion, "reduction"):
        return False
    return bool(type(criterion).forward.__module__ == "torch.nn.modules.loss")


def _one_by_one(criterion: Criterion, output: Tensor, target: Any) -> Tensor:
    size = len(output)
    with undone(criterion, output.device):
        # A criterion may keep state or draw random numbers, of which training must notice nothing.
        losses = [criterion(output[i : i + 1], sample_of(target, i, size)) for i in range(size)]
        whole = criterion(output, target) if size > 1 else None
    found = stacked(losses, _name_of(criterion)) if losses else output.new_zeros(0)
    if not isinstance(whole, Tensor) or whole.numel() != 1:
        return found
    # Half precision cannot hold ``WHOLE_BATCH``.
    found = found.float() if found.dtype in (torch.float16, torch.bfloat16) else found
    whole = whole.reshape(()).to(found.dtype)
    return found.masked_fill(_cannot_explain(found, whole, output), WHOLE_BATCH)


def _cannot_explain(losses: Tensor, whole: Tensor, output: Tensor) -> Tensor:
    """Return whether the losses of single samples, [N], cannot explain that of the batch, [] bool."""
    first, differs = losses[0], (output != output[:1]).any()
    is_mean_or_sum = torch.isclose(whole, first, rtol=1e-4) | torch.isclose(whole, first * len(losses), rtol=1e-4)
    constant = (losses == first).all() & ((first == 0) | differs)
    # No mean or sum of them can be larger.
    unexplained = (losses >= 0).all() & (whole > 1.01 * losses.sum())
    return whole.isfinite() & ~is_mean_or_sum & (constant | ~losses.isfinite().any() | unexplained)


def _no_sample_loss(criterion: Criterion, output: Tensor, target: Any, error: Exception) -> NoSampleLossError:
    # Called once more, to tell a criterion that needs more than output and target from one that needs a batch.
    name, quoted = _name_of(criterion), " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(": ")
    try:
        with undone(criterion, output.device):
            criterion(output, target)
    except Exception:  # noqa: BLE001  # the same
        return NoSampleLossError(f"{name} cannot be called with the output and the target alone ({quoted})")
    return NoSampleLossError(f"{name} has a loss of a whole batch alone, and fails for one sample ({quoted})")


def _name_of(criterion: Any) -> str:
    while isinstance(criterion, partial):
        criterion = criterion.func
    return str(getattr(criterion, "__name__", type(criterion).__name__))


def stacked(losses: Sequence[Any], name: str) -> Tensor:
    """Return the losses of samples, [N]; raise a ``UsageError`` if one of them is not one number."""
    for loss in losses:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(f"{name} must give one number for one sample, or have reduction='none', got {got}.")
    return torch.stack([loss.reshape(()) for loss in losses])


def sample_of(part: Any, index: int, size: int) -> Any:
    """Return a batch of one sample from a batch of ``size``, or from a part of it; what has no samples stays."""
    if isinstance(part, Mapping):
        return {name: sample_of(inner, index, size) for name, inner in part.items()}
    has_samples = isinstance(part, list | tuple) or (isinstance(part, Tensor | np.ndarray) and part.ndim > 0)
    if has_samples and len(part) == size:
        return part[index : index + 1]
    return [sample_of(inner, index, size) for inner in part] if isinstance(part, list | tuple) else part


def weighted_sum(losses: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return the weighted sum of terms of the losses of samples, [N] each.

    A term in which nothing counts adds nothing. A sample for which this is so in all terms has ``NO_SCORE``, and it has
    ``WHOLE_BATCH`` if a term has.
    """
    if len(losses) == 1 and weights[0] == 1:
        return losses[0]
    # Masked first, as a weight times minus infinity would spread over the sum.
    missing = torch.stack([of_term == NO_SCORE for of_term in losses])
    needs_batch = torch.stack([of_term == WHOLE_BATCH for of_term in losses]).any(dim=0)
    terms = zip(losses, weights, missing, strict=True)
    total = torch.stack([weight * of_term.masked_fill(none, 0) for of_term, weight, none in terms]).sum(dim=0)
    return total.masked_fill(missing.all(dim=0), NO_SCORE).masked_fill(needs_batch, WHOLE_BATCH)


def pick_criterion(criterion: Any, key: str | None) -> Any:
    """Return the criterion of a run, or one of several by its name; None if there is none to choose.

    Args:
        criterion: one, or several by name, or None.
        key: the name; None: the only one there is.

    Raises:
        UsageError: there is none of this name.
    """
    if isinstance(criterion, Mapping | nn.ModuleDict):
        if key is None:
            return next(iter(criterion.values())) if len(criterion) == 1 else None
        if key not in criterion:
            raise unknown_name("criterion", key, criterion.keys(), note=" for criterion_key")
        return criterion[key]
    if key is not None:
        got = "none" if criterion is None else f"one, {_name_of(criterion)}: leave criterion_key out"
        raise UsageError(f"criterion_key={key!r} names one of several criteria of a run, and this one has {got}.")
    return criterion


def names_of_criteria(criterion: Any) -> str:
    """Return the advice to name one of several criteria; empty if there are not several."""
    if not isinstance(criterion, Mapping | nn.ModuleDict):
        return ""
    return f"the run has several criteria: pass criterion_key, one of {listing(criterion.keys())}"


def losses_of_batch(
    runner: dl.IRunner, batch: Mapping[str, Any], output: Any, target: Any, criterion_key: str | None = None
) -> Tensor | None:
    """Return the loss of each sample of a batch, [N]: by the runner's own rule, or by its criterion.

    A sample in which nothing counts has ``NO_SCORE``. Callbacks that ask for the same share what is found.

    Args:
        runner: any Catalyst runner.
        batch: with the outputs in it, for a runner with ``sample_losses``.
        output: of the batch, for the criterion.
        target: of the batch, for the criterion.
        criterion_key: of the runner's criteria by name; None: the runner's own rule, or the only one there is.

    Returns:
        None if the runner has no criterion, or several by name and no rule, or if the output is no tensor.
    """
    by_runner = sample_losses_of(runner)
    if criterion_key is None and by_runner is not None and runner.criterion is not None:
        if not isinstance(output, Tensor):
            return None
        return once_per_batch(runner, "losses by the runner", batch, partial(by_runner, batch))
    criterion = pick_criterion(runner.criterion, criterion_key)
    if criterion is None or not isinstance(output, Tensor):
        return None
    find = partial(sample_losses, criterion, output, target, uncounted=NO_SCORE)
    return once_per_batch(runner, ("losses by", criterion_key, id(criterion)), [output, target], find)


def row_criterion(
    runner: dl.IRunner, output_key: str, target_key: str, criterion_key: str | None = None
) -> RowCriterion | None:
    """Return what ``row_losses`` needs to give the same as ``losses_of_batch`` at any time; None where it cannot.

    It can for cross-entropy without weights, by which the loss of a sample follows from its row alone. So the losses of
    many batches are found at once.

    Args:
        runner: any Catalyst runner.
        output_key: key of the output in the batch, [N, C].
        target_key: key of the target in the batch, one for each sample.
        criterion_key: see ``losses_of_batch``.
    """
    terms = loss_terms(runner)
    if criterion_key is None and terms is not None and runner.criterion is not None:
        plain = [one for one in terms if (one.output, one.target) == (output_key, target_key) and one.is_plain]
        criterion = plain[0].pick_criterion(runner.criterion) if len(terms) == len(plain) == 1 else None
    else:
        criterion = pick_criterion(runner.criterion, criterion_key)
    # What a class or a function of the user's does, nobody knows.
    if type(criterion) is not nn.CrossEntropyLoss or criterion.weight is not None:
        return None
    return criterion.reduction, criterion.ignore_index, criterion.label_smoothing


def row_losses(criterion: RowCriterion, output: Tensor, target: Tensor) -> Tensor:
    """Return the loss of each sample, [N], ``NO_SCORE`` where nothing counts.

    Args:
        criterion: from ``row_criterion``.
        output: [N, C], of samples of any number of batches.
        target: [N] classes, or [N, C] shares.
    """
    reduction, ignore_index, smoothing = criterion
    own = nn.CrossEntropyLoss(reduction=reduction, ignore_index=ignore_index, label_smoothing=smoothing)
    return sample_losses(own, output, target, uncounted=NO_SCORE)


def once_per_batch(runner: dl.IRunner, asked: Hashable, parts: Any, find: Callable[[], Found]) -> Found:
    """Return what ``find`` returns, or returned before for the same question about the same parts of the batch.

    Parts are the same as long as no callback has replaced them, or changed a tensor in place. They are not kept alive,
    only what was found is, until the next batch.

    Args:
        runner: whose current batch it is.
        asked: what is asked of the parts.
        parts: tensors, or lists and dicts of them; whatever else does not matter for what is found.
        find: makes the answer, which nobody may change.
    """
    batch = batch_of_run(runner)
    known, found = _found.get(runner, (None, {}))
    if known != batch:
        found = {}
        _found[runner] = batch, found
    key = (asked, identity_of(parts))
    if key not in found:
        with torch.no_grad():  # a graph would be kept with it
            found[key] = find()
    answer: Found = found[key]
    return answer


def kept_copy(runner: dl.IRunner, part: Tensor) -> Tensor:
    """Return a copy of a tensor of the batch, one for all who ask and which nobody may change.

    A later callback may work in place, and a compiled model may write its next output into the same memory.
    """
    return once_per_batch(runner, "copy", [part], part.detach().clone)


def can_join(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    """Return whether the parts of two batches can be concatenated."""
    alike = (a.shape[1:] == b.shape[1:] and a.dtype == b.dtype for a, b in zip(one, other, strict=False))
    return len(one) == len(other) and all(alike)


def identity_of(part: Any) -> Hashable:
    """Return what is equal for the same tensors with the same content, in lists and dicts too."""
    if isinstance(part, Tensor):
        # The memory, as each callback has detached the tensor for itself. A weak reference to it keeps its address from
        # being taken by another one.
        version = 0 if part.is_inference() else part._version
        place = (part.storage_offset(), tuple(part.shape), part.stride(), part.dtype)
        return (_Memory(part), version, *place)
    if isinstance(part, Mapping):
        return tuple((name, identity_of(inner)) for name, inner in part.items())
    # Names of samples are many, and need not be looked at.
    if isinstance(part, list | tuple) and part and isinstance(part[0], Tensor | Mapping | list | tuple):
        return tuple(map(identity_of, part))
    return part if isinstance(part, _PLAIN) else id(part)


class _Memory:
    """The memory of a tensor, without keeping it alive."""

    def __init__(self, tensor: Tensor):
        self.reference = StorageWeakRef(tensor.untyped_storage())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Memory) and self.reference.cdata == other.reference.cdata

    def __hash__(self) -> int:
        return hash(self.reference.cdata)
