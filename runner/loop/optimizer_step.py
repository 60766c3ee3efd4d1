"""The optimizer step: the gradient of a group of batches, reduced over ranks, clipped and applied."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.hooks import RemovableHandle

from assay.callbacks.support.unwrap import by_name, raw_optimizers

from ..data.sharding import RankBatch
from ..recipe.criteria import average_gradients, own_parameters
from ..recipe.loss_counts import Counted, Number, check_ahead, count_group
from ..recipe.schedulers import WarmUp
from .parts.loader_loss import BatchLoss
from .parts.read_ahead import counts, kept
from .parts.run_view import RunView


class ClippedRun(RunView, Protocol):
    """The runner as the step sees it, with the options that are read here alone."""

    clip_grad_norm: float | None
    clip_grad_value: float | None


class OptimizerStep:
    """Adds up the gradient of a group of batches, and makes the step with it.

    A group holds the batches of ``accumulate_steps`` rounds, those of every rank; what is left at the end of a loader
    makes a last, smaller one. Its gradient is that of the criteria over all its batches at once.

    Args:
        run: whose models, criteria, optimizers and schedulers these are.

    Attributes:
        hooks: functions that are called before each step, by the id of their handle.
        grad_norm: of all parameters together before they were clipped by it, at the last step; None: not clipped.
    """

    def __init__(self, run: ClippedRun):
        self.run = run
        self.hooks: dict[int, Callable[[], None]] = OrderedDict()
        self.grad_norm: Tensor | None = None
        self._group_counts: Mapping[str, Number] = {}

    def register_hook(self, hook: Callable[[], None]) -> RemovableHandle:
        """Have a function called before each step; the handle takes it out again."""
        handle = RemovableHandle(self.hooks)
        self.hooks[handle.id] = hook
        return handle

    # -- the group ------------------------------------------------------------------------------------------------

    @property
    def _group(self) -> Sequence[RankBatch]:
        """The rounds of the step that the current one belongs to, the same on every rank."""
        size = self.run.accumulate_steps
        first = (self.run.loader_rounds - 1) // size * size
        return self.run.rank_batches[first : first + size]

    @property
    def begins_group(self) -> bool:
        """Whether the current round is the first of its group."""
        return (self.run.loader_rounds - 1) % self.run.accumulate_steps == 0

    @property
    def closes_group(self) -> bool:
        """Whether the current round is the last of its group."""
        rounds = self.run.loader_rounds
        return rounds % self.run.accumulate_steps == 0 or rounds == len(self.run.rank_batches)

    @property
    def _is_shared(self) -> bool:
        """Whether several batches, of this rank or of others, make up a step."""
        return self.run.accumulate_steps > 1 or bool(self.run.engine.num_processes > 1)

    def read(self, batches: Iterator[Any], first: int) -> Iterator[Any]:
        """Return what a loader gives from a round on, read ahead by groups where a step asks for that."""
        terms = self.run.loader_loss.terms
        if not (self.run.is_train_loader and self._is_shared and any(counted.varies for counted in terms)):
            return batches
        check_ahead(terms)
        return self._read_groups(batches, first)

    def _read_groups(self, batches: Iterator[Any], first: int) -> Iterator[Any]:
        """Yield batches when all of their group are there and counted."""
        # The share of a batch is its count over that of the group: the backward pass of the first batch needs to know
        # what the last one counts.
        size, terms = self.run.accumulate_steps, self.run.loader_loss.terms
        while rounds := self.run.rank_batches[first : (first // size + 1) * size]:
            group = [kept(batch, self.run.loader) for batch in islice(batches, len(rounds))]
            counting = [batch if counts(batch, one) else None for batch, one in zip(group, rounds, strict=False)]
            self._group_counts = count_group(terms, counting, self.run.engine.device)
            first += len(rounds)
            while group:
                yield group.pop(0)  # and held no longer than the step that it is for

    # -- the gradient ---------------------------------------------------------------------------------------------

    @contextmanager
    def gradient_sync(self) -> Iterator[None]:
        """Reduce the gradients of a group over ranks once, with those of its last batch."""
        with ExitStack() as stack:
            if self.run.is_train_loader and not self.closes_group:
                for model in by_name(self.run.model).values():
                    stack.enter_context(self.run.engine.no_sync(model))
            yield

    def backward(self, loss: BatchLoss) -> None:
        """Add the gradient of a batch to that of its group."""
        self.run.engine.backward(loss.scaled(self._shares(loss)))

    def _shares(self, loss: BatchLoss) -> list[Number]:
        """Return the weight of the batch in each term, of 1 for all batches of the group, times the ranks."""
        # DDP averages gradients over ranks, and the criteria over all batches ask for their sum: so times the ranks.
        current = self.run.rank_batches[self.run.loader_rounds - 1]
        in_group = sum(one.round_samples for one in self._group)
        of_samples = current.samples * self.run.engine.num_processes / in_group
        counted = zip(loss.terms, loss.counts, strict=True)
        return [self._share_of_term(term, count, of_samples) for term, count in counted]

    def _share_of_term(self, counted: Counted, count: Number, of_samples: float) -> Number:
        ranks: int = self.run.engine.num_processes
        if not self._is_shared or not (counted.varies or counted.adds_up):
            return of_samples
        if counted.adds_up:
            return float(ranks)
        total = self._group_counts[counted.term.label]
        # A group of which nothing counts has a loss of 0: its share is 0 too, and not NaN.
        return count * ranks / (total.masked_fill(total == 0, 1) if isinstance(total, Tensor) else total or 1)

    # -- the step -------------------------------------------------------------------------------------------------

    def take(self) -> None:
        """Make the step with the gradient that is there."""
        run, optimizers = self.run, list(raw_optimizers(self.run.optimizer).values())
        # DDP knows the parameters of models alone.
        average_gradients(own_parameters(run.criterion))
        if self._clips or self.hooks:
            # Hooks and limits are about the gradient itself, not about what a loss scaler has made of it.
            run.engine.unscale_optimizers(optimizers)
        for hook in list(self.hooks.values()):
            hook()
        self._clip()
        run.engine.step_optimizers(optimizers)
        if run.ema_ is not None:
            run.ema_.update()
        self._count_warm_up()
        self.step_schedulers("batch")

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all models and criteria."""
        of_models = [parameter for model in by_name(self.run.model).values() for parameter in model.parameters()]
        return [*of_models, *own_parameters(self.run.criterion)]

    @property
    def _clips(self) -> bool:
        run = self.run
        return run.clip_grad_value is not None or run.clip_grad_norm is not None or bool(run.stock_.clipping)

    def _clip(self) -> None:
        self.run.stock_.clipping.clip(self.run.batch_metrics)
        if self.run.clip_grad_value is not None:
            nn.utils.clip_grad_value_(self.parameters(), self.run.clip_grad_value)
        if self.run.clip_grad_norm is not None:
            # Kept as a tensor: a callback that logs it reads it when it is on its way to the host anyway.
            self.grad_norm = nn.utils.clip_grad_norm_(self.parameters(), self.run.clip_grad_norm)

    def _count_warm_up(self) -> None:
        # A warm-up counts optimizer steps, whatever the schedule underneath steps by.
        for scheduler in by_name(self.run.scheduler).values():
            if isinstance(scheduler, WarmUp):
                scheduler.batch_step()

    def step_schedulers(self, moment: str) -> None:
        """Step the schedulers that no callback steps, where it is their time.

        Args:
            moment: ``batch``, after an optimizer step, or ``epoch``, after its metrics are known.
        """
        for name, scheduler in by_name(self.run.scheduler).items():
            inner = scheduler.scheduler if isinstance(scheduler, WarmUp) else scheduler
            if self.run.stock_.schedules.has(name):
                continue
            if isinstance(inner, ReduceLROnPlateau):
                # It needs a metric, which there is at the end of an epoch alone; None where that left the loader out.
                if moment == "epoch" and (metric := self.run.scheduler_monitor.of_epoch(self.run)) is not None:
                    scheduler.step(metric)
            elif moment == self.run.scheduler_step:
                scheduler.step()
