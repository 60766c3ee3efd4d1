"""Terms of a loss as means: the value of each on a batch, and the count that the mean is over."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from assay.callbacks.errors import UsageError
from assay.callbacks.keys import pick
from assay.callbacks.support.distributed import reduce_state, world_size
from assay.callbacks.support.sample_losses import sample_losses, sample_of, stacked
from assay.callbacks.support.target_mean import target_mean
from assay.callbacks.support.undone import undone

from .losses import LossTerm

Number = float | Tensor
"""A count: a number of the host where it is known there, or else float64, [], on the device."""


class Counted:
    """A term of the loss as a mean over samples.

    Args:
        term: of the loss.
        criterion: one, or several by name, as a runner has it.

    Attributes:
        varies: whether what is counted follows from the targets, and not from the number of samples alone.
        adds_up: whether the criterion gives a sum, so that there is nothing to divide by.
    """

    varies = False
    adds_up = False

    def __init__(self, term: LossTerm, criterion: Any):
        self.term = term
        self.criterion = criterion

    def value(self, batch: Mapping[str, Any], samples: int, *, only_classes: bool = False) -> tuple[Tensor, Number]:
        """Return the term on a batch with its outputs, [], not weighted, and its count; both 0 where nothing counts.

        Args:
            batch: with the outputs.
            samples: number of samples in it.
            only_classes: whether all targets are known to be classes that count.
        """
        return self._one_number(self.term.compute(self.criterion, batch)), samples

    def count(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the count of a batch without its outputs, [] float64; only where it ``varies``."""
        raise NotImplementedError

    def count_on_host(self, batch: Mapping[str, Any]) -> int | None:
        """Return the count of a batch as the loader gave it; None where its values have to be looked at."""
        return None

    def sample_losses(self, batch: Mapping[str, Any], uncounted: float, *, all_count: bool = False) -> Tensor:
        """Return the term on each sample of a batch alone, [N]; ``uncounted`` where nothing of it counts.

        Args:
            batch: with the outputs.
            uncounted: see above.
            all_count: whether all targets are known to be classes that count.
        """
        if self.own is None:
            return self._computed_one_by_one(batch)
        output, target = self._parts(batch)
        return sample_losses(self.own, output, target, uncounted=uncounted, all_count=all_count)

    def _computed_one_by_one(self, batch: Mapping[str, Any]) -> Tensor:
        """Return what a term with a ``compute`` of its own gives for each sample alone."""
        output, name = pick(batch, self.term.output, str(self.term)), type(self.term).__name__
        if not isinstance(output, Tensor) or not output.ndim:
            raise UsageError(
                f"{name}({self.term.output!r}) gives no loss for a sample, as its output is none of samples [N, ...]: "
                "name another score, such as a key of the batch with one number per sample or a function of the batch."
            )
        size = len(output)
        # Undone afterwards: criteria with buffers would count each sample once more.
        with torch.no_grad(), undone(self.criterion, output.device):
            losses = [self.term.compute(self.criterion, sample_of(batch, i, size)) for i in range(size)]
        return stacked(losses, name) if losses else output.new_zeros(0)

    @property
    def own(self) -> Any:
        """The criterion of the term; None where it computes its value in a way of its own."""
        if type(self.term).compute is not LossTerm.compute:
            return None
        return self.term.pick_criterion(self.criterion)

    def _parts(self, batch: Mapping[str, Any]) -> tuple[Any, Any]:
        return pick(batch, self.term.output, str(self.term)), pick(batch, self.term.target, str(self.term))

    def _one_number(self, loss: Any) -> Tensor:
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            got = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise UsageError(f"the criterion of {self.term} must give one number per batch, as a tensor; got {got}.")
        return loss.reshape(())


class Summed(Counted):
    """A term whose criterion adds up: there is nothing to divide by."""

    adds_up = True

    def value(self, batch: Mapping[str, Any], samples: int, *, only_classes: bool = False) -> tuple[Tensor, Number]:
        # 1 for every batch, so that totals add up and nothing is divided.
        return super().value(batch, samples)[0], 1.0


class OverTargets(Counted):
    """A term whose criterion is torch's mean over the targets that count.

    Where nothing is known to count, it is made from the sum.
    """

    varies = True

    def value(self, batch: Mapping[str, Any], samples: int, *, only_classes: bool = False) -> tuple[Tensor, Number]:
        output, target = self._parts(batch)
        mean: Any = target_mean(self.own)
        # Known on the host, the count asks the device for nothing, and is not 0.
        if known := mean.known_count(target, only_classes=only_classes):
            return super().value(batch, known)
        # From the sum, whose gradient is 0 where nothing counts; that of the mean is NaN.
        count = mean.count(target)
        total = self._one_number(mean.sum(output, target))
        return total / mean.divisor(count).to(total.dtype), count

    def count(self, batch: Mapping[str, Any]) -> Tensor:
        mean: Any = target_mean(self.own)
        return mean.count(batch[self.term.target])  # type: ignore[no-any-return]

    def count_on_host(self, batch: Mapping[str, Any]) -> int | None:
        mean: Any = target_mean(self.own)
        target = batch.get(self.term.target)
        return mean.known_count(target) if isinstance(target, Tensor) else None


class OverOwn(Counted):
    """A term whose criterion has ``count_targets``, by which it divides; its value is 0 where nothing counts."""

    varies = True

    def value(self, batch: Mapping[str, Any], samples: int, *, only_classes: bool = False) -> tuple[Tensor, Number]:
        return super().value(batch, samples)[0], self.count(batch)

    def count(self, batch: Mapping[str, Any]) -> Tensor:
        counts: Tensor = self.own.count_targets(pick(batch, self.term.target, str(self.term)))
        return counts.sum()


class OverGiven(Counted):
    """A term with a ``count``, which gives what its criterion divides by."""

    varies = True

    @property
    def asks_for_output(self) -> bool:
        """Whether the count is known when the model has run, and not before."""
        return callable(self.term.count) and _positional(self.term.count) > 1

    def value(self, batch: Mapping[str, Any], samples: int, *, only_classes: bool = False) -> tuple[Tensor, Number]:
        count = self._counted(batch)
        counts = count > 0
        # ``where`` alone would not do: a NaN of the branch that is not taken reaches the gradient as 0 * NaN.
        gated = pick(batch, self.term.output, str(self.term))
        loss = self._one_number(self.term.compute(self.criterion, {**batch, self.term.output: _gated(gated, counts)}))
        return torch.where(counts, loss, torch.zeros_like(loss)), count

    def count(self, batch: Mapping[str, Any]) -> Tensor:
        return self._counted(batch)

    def sample_losses(self, batch: Mapping[str, Any], uncounted: float, *, all_count: bool = False) -> Tensor:
        losses = super().sample_losses(batch, uncounted, all_count=all_count)
        # Cut to single samples only what is counted from: other parts may have no axis of samples.
        keys = [key for key in (self.term.output, self.term.target, self.term.count) if isinstance(key, str)]
        parts, size = {key: batch[key] for key in keys}, len(losses)
        counts = [self._counted(sample_of(parts, i, size)) for i in range(size)]
        return losses.masked_fill(torch.stack(counts) == 0, uncounted) if counts else losses

    def _counted(self, batch: Mapping[str, Any]) -> Tensor:
        given: Any = self.term.count
        if isinstance(given, str):
            part = pick(batch, given, f"{self.term} with count={given!r}")
            counted = torch.as_tensor(part).sum()
        elif self.asks_for_output:
            counted = given(*self._parts(batch))
        else:
            counted = given(pick(batch, self.term.target, str(self.term)))
        return self._scalar(counted, batch)

    def _scalar(self, counted: Any, batch: Mapping[str, Any]) -> Tensor:
        if isinstance(counted, Real):
            devices = (part.device for part in batch.values() if isinstance(part, Tensor))
            return torch.full((), float(counted), dtype=torch.float64, device=next(devices, None))
        if not isinstance(counted, Tensor) or counted.numel() != 1:
            got = f"shape {tuple(counted.shape)}" if isinstance(counted, Tensor) else f"a {type(counted).__name__}"
            raise UsageError(f"the count of {self.term} must be one number for a batch, got {got}.")
        return counted.detach().reshape(()).to(torch.float64)


class _Gate(torch.autograd.Function):
    """Lets a gradient through, or 0 in its place, also where it is NaN."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, opens: Tensor) -> Tensor:
        ctx.save_for_backward(opens)
        return part.view_as(part)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (opens,) = ctx.saved_tensors
        return torch.where(opens, gradient, torch.zeros_like(gradient)), None


def _gated(part: Any, opens: Tensor) -> Any:
    if isinstance(part, Tensor):
        return _Gate.apply(part, opens) if part.requires_grad else part  # type: ignore[no-untyped-call]
    if isinstance(part, Mapping):
        return {name: _gated(inner, opens) for name, inner in part.items()}
    return [_gated(inner, opens) for inner in part] if isinstance(part, list | tuple) else part


def _positional(function: Callable[..., Any]) -> int:
    """Return the number of arguments that a function needs by their place."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # one of torch in C, such as torch.numel
        return 1
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in places and one.default is one.empty for one in parameters)


def counted_terms(terms: Sequence[LossTerm], criterion: Any) -> list[Counted]:
    """Return for each term of a loss what it is a mean over."""
    return [_kind(term, criterion)(term, criterion) for term in terms]


def _kind(term: LossTerm, criterion: Any) -> type[Counted]:
    if term.count is not None:
        return OverGiven
    if type(term).compute is not LossTerm.compute or criterion is None:
        return Counted
    own = term.pick_criterion(criterion)
    # Exact knowledge of torch's losses first; of others only ``reduction`` is asked for.
    mean = target_mean(own)
    if mean is not None:
        return Summed if mean.adds_up else OverTargets
    if hasattr(own, "count_targets"):
        return OverOwn
    options = own.keywords if isinstance(own, partial) else {}
    adds_up = "sum" in (getattr(own, "reduction", None), options.get("reduction"))
    return Summed if adds_up else Counted


def check_ahead(terms: Sequence[Counted]) -> None:
    """Raise where what a term counts cannot be known before the model has run."""
    for counted in terms:
        if isinstance(counted, OverGiven) and counted.asks_for_output:
            raise UsageError(
                f"the count of {counted.term} asks for the output, but with accumulate_steps or several processes it "
                "must be known before: let it be a function of the target alone, or a key of the batch."
            )


def count_group(
    terms: Sequence[Counted], batches: Sequence[Mapping[str, Any] | None], device: torch.device
) -> dict[str, Number]:
    """Return what all batches of an optimizer step count together, on all ranks: for each term that ``varies``.

    A collective with one message on several processes.

    Args:
        terms: of the loss.
        batches: those of this rank, as the loader gave them; None in the place of one of which nothing counts.
        device: of the counts.
    """
    varying = [counted for counted in terms if counted.varies]
    totals: Sequence[Number] = [
        sum((_count_ahead(counted, batch, device) for batch in batches if batch is not None), 0.0)
        for counted in varying
    ]
    if world_size() > 1:
        # One message for all terms: the ranks wait for it before every step.
        mine = torch.stack([on_device(total, device) for total in totals])
        totals = reduce_state({"counts": mine}, {"counts": "sum"})["counts"].unbind()
    return dict(zip((counted.term.label for counted in varying), totals, strict=True))


def on_device(count: Number, device: torch.device | str) -> Tensor:
    """Return a count as float64, [], on the device; a number of the host is filled in there, so that nothing waits."""
    if isinstance(count, Tensor):
        return count.to(device, torch.float64)
    return torch.full((), count, dtype=torch.float64, device=device)


def _count_ahead(counted: Counted, batch: Mapping[str, Any], device: torch.device) -> Number:
    known = counted.count_on_host(batch)
    return counted.count(_for_count(counted, batch, device)) if known is None else known


def _for_count(counted: Counted, batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return what the count is made from, on the device."""
    given = counted.term.count
    key = given if isinstance(given, str) else counted.term.target
    if key not in batch:
        raise UsageError(
            f"{counted.term} must be counted before the model runs, as batches are accumulated or on several "
            f"processes, and the loader gives no {key!r}: let count name a part of its batches; its sum is taken."
        )
    sent: dict[str, Any] = send_to_device({key: batch[key]}, device, non_blocking=True)
    return sent
