"""The loop over the loaders of an epoch: rounds, in each of which every rank runs at most one batch."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from assay.callbacks.errors import UsageError
from assay.callbacks.support.distributed import copy_from_main_rank, from_main_rank
from assay.callbacks.support.unwrap import by_name

from ..data.bad_images import StandIn
from ..data.batch_size import batch_size
from ..data.seeding import seed_everything, set_rng_state
from ..data.sharding import SAMPLES_OF_STAND_IN, RankBatch
from ..recipe.criteria import criterion_modules
from .parts.lone_samples import lone_sample_foreseen
from .parts.run_view import RunView
from .state.taken_states import naming_state
from .state.unfinished_epoch import UnfinishedEpoch, restore_loader
from .stock.loaders import check_same_loaders


class EpochLoop:
    """Runs the loaders of an epoch one after the other, and each in rounds.

    All ranks run the same number of rounds, as a step is made by all of them together. A rank that has no batch in a
    round for training takes the step with a stand-in, which no callback sees.

    Args:
        run: whose events, batches and counters these are.

    Attributes:
        batches: what the loader that is being run gives; None between loaders.
        round_hooks: functions that are called at the end of each round, by the id of their handle.
    """

    def __init__(self, run: RunView):
        self.run = run
        self.batches: Iterator[Any] | None = None
        self.round_hooks: dict[int, Callable[[], None]] = OrderedDict()

    def register_round_hook(self, hook: Callable[[], None]) -> RemovableHandle:
        """Have a function called at the end of each round; the handle takes it out again."""
        handle = RemovableHandle(self.round_hooks)
        self.round_hooks[handle.id] = hook
        return handle

    def run_epoch(self) -> None:
        """Run all loaders, and keep the metrics that the ranks agree on."""
        run = self.run
        check_same_loaders(run)
        finished = self._restore_epoch(run.run_state.unfinished)
        for key in [key for key in run.loaders if key not in finished]:
            self.run_loader(key, run.loaders[key])
        # What follows from it, as early stopping, is decided on each rank, and a callback's metric may be a rank's own.
        agreed = from_main_rank({key: dict(run.epoch_metrics[key]) for key in run.loaders})
        run.history[run.epoch_step] = agreed
        run.epoch_metrics.update({key: dict(metrics) for key, metrics in agreed.items()})
        run.optimizer_step.step_schedulers("epoch")

    def run_loader(self, key: str, loader: DataLoader[Any]) -> None:
        """Run one loader, with the events around it."""
        run = self.run
        run.loader_key, run.loader = key, loader
        run._run_event("on_loader_start")
        self._run_loader()
        run._run_event("on_loader_end")

    def start_loader(self) -> None:
        """Draw the order of the loader, and begin to count its batches and samples."""
        run, shard = self.run, self._shard
        shard.draw_epoch(run.seed, run.epoch_step)
        # Anew, as drawing the order has seeded the generators alike on all ranks.
        seed_everything(run.seed, run.epoch_step, run.engine.process_index)
        run.rank_batches = shard.rank_batches
        run.loader_batch_size = run.loader.batch_size or max(len(one.indices) for one in shard.rank_batches)
        run.loader_batch_len, run.loader_batches = len(shard.rank_batches), shard.batches
        run.loader_sample_len = shard.samples
        run.loader_batch_step = run.loader_sample_step = 0
        run.loader_metrics = {}

    @property
    def _shard(self) -> Any:
        return self.run.loader.batch_sampler

    def _run_loader(self) -> None:
        """Run the rounds of the loader that has started."""
        run = self.run
        batches, first = self._start_reading()
        rounds = iter(run.rank_batches[first:])
        with torch.set_grad_enabled(run.is_train_loader):
            # The loader is asked first: where it has no batch for this rank, the round is still there for ``else``.
            for batch, rank_batch in zip(run.optimizer_step.read(batches, first), rounds, strict=False):
                if run.need_early_stop:
                    self._leave_loader()
                    break
                self._advance_counters(rank_batch)
                self._run_round(batch, rank_batch)
                self._end_round()
            else:
                for rank_batch in rounds:  # that other ranks have and this one has not
                    self._advance_counters(rank_batch)
                    self._end_round()
        self._finish_loader()

    def _start_reading(self) -> tuple[Iterator[Any], int]:
        """Have the loader begin, and return what it gives, and the first round to run."""
        run = self.run
        unfinished = run.run_state.take_unfinished()
        if unfinished is not None:
            with naming_state(f"loader {run.loader_key!r}"):
                self._restore_loader(unfinished)
        self.batches = batches = iter(run.loader)
        # A loader draws when it makes its workers, and those may be there already: nothing else is to depend on it.
        if unfinished is None:
            seed_everything(run.seed, run.epoch_step, run.engine.process_index)
            return batches, 0
        set_rng_state(unfinished.rng)
        return batches, unfinished.loader_rounds

    def _run_round(self, batch: Any, rank_batch: RankBatch) -> None:
        """Run a batch as the loader gave it; callbacks see one that counts, and no other."""
        run = self.run
        if run.is_train_loader and run.optimizer_step.begins_group:
            # Between steps alone: DDP that is made anew knows nothing of the gradients of batches before.
            run.unfreezing.follow(run)
        run.batch = send_to_device(batch, run.engine.device, non_blocking=True)
        run.targets.take(batch, run.batch, run.loader_key)
        if rank_batch.samples and not isinstance(batch, StandIn):
            run.batch_size = batch_size(batch, rank_batch.samples, run.keys_of_samples)
            run._run_event("on_batch_start")
            run.handle_batch(batch=run.batch)
            run._run_event("on_batch_end")
        elif run.is_train_loader:
            self._run_stand_in()

    def _run_stand_in(self) -> None:
        """Take the step without a batch to count: nobody sees this one, and its gradient is zero.

        Other ranks may have one, or there is none because all images of the batch are bad.
        """
        run = self.run
        with run.optimizer_step.gradient_sync():
            with lone_sample_foreseen(run, SAMPLES_OF_STAND_IN):
                outputs = run.forward(run.batch)
            loss = run.loader_loss.compute({**run.batch, **outputs}, samples=0)
            # DDP waits for the gradients of every rank, so this one has to go backward too.
            run.engine.backward(0.0 * loss.total)
        if run.optimizer_step.closes_group:
            run._take_step()
        run.stock_.schedules.step_without_batch()

    def _advance_counters(self, rank_batch: RankBatch) -> None:
        """Count a round: its batches once a rank, as Catalyst does, and its samples as they are."""
        run, ranks = self.run, self.run.engine.num_processes
        run.place = rank_batch.place
        run.epoch_rounds += 1
        run.batch_step += ranks
        run.loader_batch_step += ranks
        run.sample_step += rank_batch.round_samples
        run.loader_sample_step += rank_batch.round_samples

    def _end_round(self) -> None:
        for hook in list(self.round_hooks.values()):
            hook()

    def _leave_loader(self) -> None:
        """End the loader before its time, where a callback has set ``need_early_stop`` within it."""
        run = self.run
        if run.engine.num_processes > 1:
            raise UsageError(
                f"need_early_stop was set within loader {run.loader_key!r}: on several processes, which make their "
                "steps together, set it in on_epoch_end."
            )
        run.need_early_stop = False
        for optimizer in by_name(run.optimizer).values():
            optimizer.zero_grad()  # of a group without its end

    def _finish_loader(self) -> None:
        run = self.run
        run.batch = self.batches = None  # nothing of the last step outlives it
        run.targets.drop()
        if run.is_train_loader:
            # Only a step's forward pass makes them equal, and what is validated and saved comes after the last step.
            copy_from_main_rank(chain.from_iterable(module.buffers() for module in modules_of(run)))
        if run.computes_loss:
            run.loader_metrics.update(run.loader_loss.reduce_means())

    def _restore_epoch(self, unfinished: UnfinishedEpoch | None) -> list[str]:
        """Restore what the epoch had when it was interrupted, and return the loaders that are done."""
        if unfinished is None:
            return []
        self.run.epoch_metrics = {key: dict(metrics) for key, metrics in unfinished.finished.items()}
        self.run.epoch_rounds = unfinished.epoch_rounds
        return unfinished.finished_loaders

    def _restore_loader(self, unfinished: UnfinishedEpoch) -> None:
        """Restore what the loader had when it was interrupted, after it has started."""
        run, rounds = self.run, unfinished.loader_rounds
        self._shard.first = rounds
        run.loader_batch_step = rounds * run.engine.num_processes
        run.loader_sample_step = sum(one.round_samples for one in run.rank_batches[:rounds])
        restore_loader(run, unfinished)


def modules_of(run: RunView) -> list[nn.Module]:
    """Return the models and the criteria that are modules."""
    return [*by_name(run.model).values(), *criterion_modules(run.criterion).values()]
