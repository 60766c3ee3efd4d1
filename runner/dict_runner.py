"""A Catalyst runner for data sets and models that speak in dicts."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from catalyst import dl
from catalyst.core.logger import ILogger
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from assay.callbacks.distributed import copy_from_main_rank, from_main_rank, gather_objects, reduce_state
from assay.callbacks.errors import UsageError, listing
from assay.callbacks.host_targets import HostTargets
from assay.callbacks.keys import IMAGE_KEY, SAMPLE_ID_KEY, pick
from assay.callbacks.lookup import HasWriters
from assay.callbacks.runner_view import BatchPlace
from assay.callbacks.sample_losses import NO_SCORE, weighted_sum
from assay.callbacks.unwrapped import (
    by_name,
    detached,
    load_weights,
    plain_module,
    raw_optimizers,
    weights_of,
    without_ddp,
)
from assay.callbacks.wrapped import inside

from .bad_images import StandIn
from .batch_size import batch_size, keys_in
from .callback_states import collect_states, share_out_states
from .checkpoint_files import load_checkpoint, validated_weights
from .checkpoints import Checkpoints
from .criteria import (
    average_gradients,
    criterion_modules,
    criterion_state,
    load_criterion_state,
    not_optimized,
    own_parameters,
    own_tensors,
)
from .early_stop import StoppedEarly
from .ema import MovingAverage
from .engine import Engine
from .engines import DistributedDataParallelEngine
from .faults import explain, note_place
from .finite_weights import check_finite_weights
from .host_memory import keep_freed_memory
from .loggers import MetricsCsv, TensorBoardLogger
from .lone_samples import lone_sample_foreseen
from .loss_counts import Counted, Number, check_ahead, count_group, counted_terms
from .loss_means import LossMeans
from .loss_watch import LossWatch
from .losses import LossTerm, check_outputs, check_terms
from .mid_epoch import begin_unfinished, go_on_within_loader, known_metrics, own_part, unfinished_epoch
from .monitor import Monitor
from .progress import Progress
from .rank_settings import rank_settings
from .read_ahead import counts, kept
from .resuming import decided_by_main_rank, newest_checkpoint
from .run_checks import LOADER_KINDS, check_engine, check_loader, check_options
from .schedulers import WarmUp
from .seeding import rng_state, seed_everything, set_rng_state
from .settings import check_same_on_all, compare_with_checkpoint, runner_settings
from .sharding import SAMPLES_OF_STAND_IN, Turn, count_rounds, end_workers, shard_loader
from .stock import StockCallbacks
from .stock.loaders import check_same_loaders
from .taken_states import naming_state
from .target_checks import TargetChecks
from .unfreezing import Unfreezing, freeze_as_before, frozen_parameters, load_optimizer

_log = logging.getLogger("assay")


class DictRunner(dl.Runner):
    """Trains a model that takes its inputs from a dict and returns its outputs as one.

    The outputs join the inputs in ``runner.batch``, where callbacks find both by name; a name on both sides is an
    error. Loader names begin with ``train``, ``valid`` or ``infer`` and decide the mode, as always in Catalyst.

    Example::

        runner = DictRunner(losses=[LossTerm("logits", "target")])
        runner.train(
            model=model, criterion=nn.CrossEntropyLoss(), optimizer=optimizer,
            loaders={"train": train, "valid": valid}, num_epochs=3, logdir="runs/first", verbose=True,
            valid_loader="valid", valid_metric="loss", minimize_valid_metric=True,
            callbacks=[Metrics(["accuracy"], num_classes=10), BestWorstBatches()],
        )

    On several processes each loader is shared out: ``batch_size`` is that of one process, and every sample counts
    once. The optimizer step is that of one process with the batches of all of them (see ``Shard``).

    Catalyst's own callbacks work beside it. A ``SchedulerCallback`` steps its scheduler in the runner's place, and the
    clipping of ``BackwardCallback`` and ``OptimizerCallback`` is made before each step; what asks for another loss,
    step or loader than the runner's is refused before the first step (see ``assay.runner.stock``).

    With ``logdir`` the run writes ``metrics.csv``, ``tensorboard/LOADER/`` and ``checkpoints/`` there.

    Args:
        model: a module that returns a dict of named outputs, or several by name, called in their order, each of
            which may use the outputs of those before it.
        engine: by default ``Engine()``.
        input_key: what the model is given: one key of the batch, handed over as the only argument, or several,
            handed over by name. Of several models, a mapping from the model's name to its key or keys.
        losses: terms of the loss. Their sum is ``loss``; where there are several, each is logged by its name.
        accumulate_steps: batches an optimizer step. The gradient is that of the criteria over the whole
            group (see ``LossTerm``); what is left at the end of a loader makes a last, smaller group.
        clip_grad_norm: largest norm of the gradient of all parameters together; None: no limit.
        clip_grad_value: largest absolute value of an element of the gradient; None: no limit.
        ema_decay: decay of a moving average of the weights, see ``MovingAverage``. Validation and inference use the
            average then, and checkpoints hold it beside the weights; None: there is none.
        scheduler_step: whether the scheduler steps by ``batch`` (optimizer step) or by ``epoch``;
            ``ReduceLROnPlateau`` always steps by epoch.
        scheduler_metric: what ``ReduceLROnPlateau`` watches, as ``LOADER/METRIC``.
        log_every_steps: how often batch metrics are logged.

    Raises:
        UsageError: an argument is out of range; a loader is empty, of an unknown kind or no loader, makes no batches,
            has an ``IterableDataset`` or is shared out already; an item of the data set or an output of the model is no
            dict; a key is missing, or stands on both sides.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, nn.Module] | None = None,
        engine: Engine | None = None,
        *,
        input_key: str | Sequence[str] | Mapping[str, str | Sequence[str]] = IMAGE_KEY,
        losses: Sequence[LossTerm] = (LossTerm(),),
        accumulate_steps: int = 1,
        clip_grad_norm: float | None = None,
        clip_grad_value: float | None = None,
        ema_decay: float | None = None,
        scheduler_step: str = "epoch",
        scheduler_metric: str = "valid/loss",
        log_every_steps: int = 10,
    ):
        super().__init__(model=model, engine=engine)
        self.engine: Any = engine
        self.epoch_step: int = 0
        self.need_early_stop: bool = False
        self.batch: Any = None
        self.place = BatchPlace(0, 0)  # of the batch in the loader of all ranks; callbacks read it, and the next one
        self.loader_batches = 0  # of all ranks
        self.grad_norm_: Tensor | None = None  # of the last step, before clipping by norm; callbacks read it
        if accumulate_steps < 1:
            raise UsageError(f"accumulate_steps must be at least 1, got {accumulate_steps}.")
        if scheduler_step not in ("batch", "epoch"):
            raise UsageError(f"scheduler_step must be 'batch' or 'epoch', got {scheduler_step!r}.")
        self.input_key = input_key
        self.losses = check_terms(losses)
        self._keys_of_samples = {SAMPLE_ID_KEY, *keys_in(input_key), *(term.target for term in self.losses)}
        self.accumulate_steps = accumulate_steps
        self.clip_grad_norm = clip_grad_norm
        self.clip_grad_value = clip_grad_value
        self.ema_decay = ema_decay
        self.ema_: MovingAverage | None = None
        self._trained_model: Any = None  # while validation uses the average
        self.scheduler_step = scheduler_step
        self.scheduler_monitor = Monitor.parse(f"{scheduler_metric}:min")
        self.log_every_steps = log_every_steps
        self.history: dict[int, dict[str, dict[str, float]]] = {}
        self._gradient_hooks: dict[int, Callable[[], None]] = OrderedDict()
        self._round_hooks: dict[int, Callable[[], None]] = OrderedDict()
        self._callback_states_to_load: dict[str, list[Any]] = {}
        self.epoch_rounds = 0  # of the epoch so far, over its loaders: batches of each rank
        self._unfinished: dict[str, Any] | None = None  # the epoch that a resumed run goes on within
        self._batches: Iterator[Any] | None = None  # of the loader that is being run
        self.all_loaders: dict[str, DataLoader[Any]] = {}
        self._targets = TargetChecks()
        self._loss_watch = LossWatch()

    def train(
        self,
        *,
        engine: Engine | None = None,
        cpu: bool = False,
        fp16: bool = False,
        ddp: bool = False,
        **options: Any,
    ) -> None:
        """Train; the arguments are those of Catalyst's ``Runner.train``.

        Args:
            engine: by default the runner's own, or one made from ``cpu`` and ``fp16``.
            cpu: run on the CPU even where there is a GPU.
            fp16: run the forward pass in half precision.
            ddp: whether there are several processes, which ``torchrun`` has started.
            options: ``loaders``, ``model``, ``criterion``, ``optimizer``, ``scheduler``, ``callbacks``,
                ``loggers``, ``seed``, ``hparams``, ``num_epochs``, ``logdir``, ``resume`` (a run folder or a
                checkpoint), ``valid_loader``, ``valid_metric``, ``minimize_valid_metric``, ``verbose``,
                ``load_best_on_end``.

        Raises:
            UsageError: beside the errors of the class, ``logdir`` holds a run that ``resume`` does not name, or an
                option of Catalyst's is not to be had here.
        """
        check_options(options)
        model = options.pop("model", None)
        if model is not None:  # Catalyst asks a model for its truth value, which a compiled one has not
            self.model = model
        engine = engine or self.engine or (DistributedDataParallelEngine if ddp else Engine)(cpu=cpu, fp16=fp16)
        check_engine(engine)
        super().train(engine=engine, **options)

    def predict_loader(
        self,
        *,
        loader: DataLoader[Any],
        model: nn.Module | Mapping[str, nn.Module] | None = None,
        engine: Engine | None = None,
        seed: int = 42,
        resume: str | None = None,
        cpu: bool = False,
        fp16: bool = False,
    ) -> Iterator[dict[str, Any]]:
        """Yield the named outputs for each batch of a loader; on several processes, each yields those of its batches.

        Args:
            loader: gives dicts; no target is needed.
            model: by default the runner's own.
            engine: see ``train``; after ``train``, by default the one of the run.
            seed: seed of what the model or the loader draws.
            resume: a run folder or a checkpoint to load the weights from.
            cpu: see ``train``.
            fp16: see ``train``.

        Raises:
            BrokenWeightsError: weights are not finite.
        """
        self.engine = engine or self.engine or Engine(cpu=cpu, fp16=fp16)
        check_engine(self.engine)
        if model is not None:
            self.model = model
        if resume is not None:
            self.load_model_state(validated_weights(load_checkpoint(resume)))
        parts = {name: self._prepare_to_predict(part) for name, part in by_name(self.model).items()}
        self.model = parts if isinstance(self.model, Mapping) else parts[""]
        check_finite_weights(by_name(self.model), "the model" if resume is None else f"checkpoint {resume}")
        sharded = self._shard(loader, trains=False)
        shard: Any = sharded.batch_sampler
        shard.draw(seed, 0)
        seed_everything(seed)
        for batch in sharded:
            yield self.predict_batch(send_to_device(batch, self.engine.device, non_blocking=True))

    def _prepare_to_predict(self, model: nn.Module) -> nn.Module:
        # Without the wrapper for training, and with the precision's once, however often it is prepared.
        plain = self.engine.unwrap_model(plain_module(self.engine, model), keep_fp32_wrapper=False)
        prepared: nn.Module = self.engine.prepare_model(plain, evaluation_mode=True)
        return prepared.eval()

    # -- what a run is made of ------------------------------------------------------------------------------------

    def get_loggers(self) -> dict[str, ILogger]:
        """Return the loggers given to ``train``; with a ``logdir`` also TensorBoard and ``metrics.csv``."""
        loggers = dict(self._loggers or {})
        if self._logdir is None:
            return loggers
        folder, given = Path(self._logdir), list(loggers.values())
        if not any(isinstance(logger, (HasWriters, dl.TensorboardLogger)) for logger in given):
            loggers["tensorboard"] = TensorBoardLogger(folder / "tensorboard", log_every_steps=self.log_every_steps)
        if not any(isinstance(logger, (MetricsCsv, dl.CSVLogger)) for logger in given):
            loggers["csv"] = MetricsCsv(folder / "metrics.csv")
        return loggers

    def get_callbacks(self) -> dict[str, dl.Callback]:
        """Return the callbacks: those given to ``train``, and those that ``logdir`` and ``verbose`` ask for."""
        given = self._callbacks or {}
        callbacks = dict(given) if isinstance(given, Mapping) else {str(i): c for i, c in enumerate(given)}
        present = tuple(type(inside(callback)) for callback in callbacks.values())
        if self._verbose and Progress not in present:
            callbacks["progress"] = Progress()
        if self._logdir is not None and Checkpoints not in present:
            monitors = []
            if self._valid_loader and self._valid_metric:
                monitors = [Monitor(self._valid_loader, self._valid_metric, self._minimize_valid_metric is not False)]
            folder = Path(self._logdir) / "checkpoints"
            callbacks["checkpoints"] = Checkpoints(folder, monitors, load_best_on_end=self._load_best_on_end)
        return callbacks

    def _setup_loaders(self) -> None:
        # Not by accelerate: it pads the shards, or lets some end early, which hangs a run that trains.
        loaders = self.get_loaders().items()
        self.loaders = {key: self._shard(loader, trains=key.startswith("train")) for key, loader in loaders}
        self.all_loaders = dict(self.loaders)  # of which PeriodicLoaderCallback leaves some out of an epoch

    def _check_loaders(self) -> None:
        ranks = self.engine.num_processes
        for key, loader in self.get_loaders().items():
            check_loader(key, loader)
            if key.startswith("train") and count_rounds(loader, ranks) == 0:
                raise UsageError(
                    f"loader {key!r} has no full round: {len(loader)} batches for {ranks} processes, and "
                    "drop_last=True drops a round in which a process gets less than a batch."
                )

    def _shard(self, loader: DataLoader[Any], *, trains: bool) -> DataLoader[Any]:
        rank, ranks = self.engine.process_index, self.engine.num_processes
        return shard_loader(loader, rank, ranks, trains=trains, pin_memory=self.engine.device.type == "cuda")

    def _setup_callbacks(self) -> None:
        # Catalyst would warn that nobody steps the optimizer; this runner does.
        self.callbacks = dict(sorted(self.get_callbacks().items(), key=lambda item: item[1].order))
        self.stock_ = StockCallbacks(self)

    # -- events ---------------------------------------------------------------------------------------------------

    def run(self) -> "DictRunner":
        """Run the experiment. An error ends it after callbacks and loggers have saved what they hold."""
        try:
            self._run()
        except (Exception, KeyboardInterrupt, StoppedEarly) as error:
            self.exception = error
            if explain(error) is not None:
                note_place(error, self._place_in_run())
            for close in [*(callback.on_exception for callback in self.callbacks.values()), self._close_log]:
                _run_noting(close, self, error)
            raise
        finally:
            end_workers(self.all_loaders.values(), self._batches)
        return self

    def log_hparams(self, *args: Any, **kwargs: Any) -> None:
        """Hand the hyper-parameters to the loggers; a resumed run has logged them already."""
        if self._resume is None:
            super().log_hparams(*args, **kwargs)

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.history, self._trained_model, self.ema_, self._unfinished = {}, None, None, None
        if self.engine.device.type == "cpu":
            keep_freed_memory()
        self._check_loaders()  # first, on all ranks: the set-up lets the main one go ahead, and the others wait for it
        self.settings_ = runner_settings(self)
        check_same_on_all({**self.settings_, **rank_settings(self)} if self.engine.num_processes > 1 else {})
        super().on_experiment_start(runner)
        copy_from_main_rank(own_tensors(self.criterion))  # as DDP does with a model
        self._warn_of_criterion()
        self._loss_watch = LossWatch(is_main=self.engine.is_main_process)
        if self.ema_decay is not None:
            plain = {name: plain_module(self.engine, model) for name, model in by_name(self.model).items()}
            self.ema_ = MovingAverage(plain, self.ema_decay)
            for name, average in self.ema_.models.items():
                self.ema_.models[name] = self.engine.prepare_model(average, evaluation_mode=True)
        self._unfreezing = Unfreezing(self)
        if self._resume is not None:
            self.load_state_dict(load_checkpoint(decided_by_main_rank(lambda: newest_checkpoint(self._resume))))

    def _warn_of_criterion(self) -> None:
        if self.optimizer is not None and self.engine.is_main_process:
            count = sum(parameter.requires_grad for parameter in not_optimized(self.optimizer, self.criterion))
            if count:
                _log.warning(
                    "%d of the criterion's own parameters stay as they are: no optimizer has them; give it "
                    "[*model.parameters(), *criterion.parameters()]", count,
                )  # fmt: skip

    # The next three leave Catalyst's own out: those refuse a rank without a batch, seed with seed + rank + epoch, so
    # that rank 1 repeats in one epoch what rank 0 draws in the next, and count what a rank has once for all ranks.

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        self.epoch_step += 1
        self.epoch_rounds = 0
        self.epoch_metrics: dict[str, dict[str, float]] = {"_epoch_": {}}
        seed_everything(self.seed, self.epoch_step, self.engine.process_index)
        self._load_callback_states()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self.is_train_loader, self.is_valid_loader, self.is_infer_loader = (
            self.loader_key.startswith(kind) for kind in LOADER_KINDS
        )
        shard: Any = self.loader.batch_sampler
        shard.draw(self.seed, self.epoch_step)
        seed_everything(self.seed, self.epoch_step, self.engine.process_index)
        self.turns: list[Turn] = shard.turns
        self.loader_batch_size = self.loader.batch_size or max(len(turn.indices) for turn in self.turns)
        self.loader_batch_len, self.loader_batches = len(shard.turns), shard.batches
        self.loader_sample_len = shard.samples
        self.loader_batch_step = self.loader_sample_step = 0
        self.loader_metrics: dict[str, float] = {}
        self._choose_model()
        for module in (*by_name(self.model).values(), *criterion_modules(self.criterion).values()):
            module.train(self.is_train_loader)
        self._terms: list[Counted] = [] if self.is_infer_loader else counted_terms(self.losses, self.criterion)
        self.loader_means = LossMeans(self._terms, self.engine.device)

    def on_batch_start(self, runner: dl.IRunner) -> None:
        if not isinstance(self.batch, Mapping):
            kind = type(self.batch).__name__
            raise UsageError(
                f"loader {self.loader_key!r} must give dicts, got a {kind}: let the data set return a dict an item, "
                "for example {'image': ..., 'target': ..., 'sample_id': ...}."
            )
        self.batch_metrics: dict[str, Any] = {}
        self.loss_counts_: dict[str, Tensor] = {}

    def on_loader_end(self, runner: dl.IRunner) -> None:
        super().on_loader_end(runner)
        if self._trained_model is not None:
            self.model, self._trained_model = self._trained_model, None

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        super().on_epoch_end(runner)
        self.need_early_stop = any(gather_objects(self.need_early_stop))

    def _choose_model(self) -> None:
        """Have the loader use the trained weights, or for all but training their average, where there is one."""
        if self._trained_model is not None:
            self.model, self._trained_model = self._trained_model, None
        if self.ema_ is not None and not self.is_train_loader:
            averages = self.ema_.models
            self._trained_model, self.model = self.model, averages if isinstance(self.model, Mapping) else averages[""]

    def _run_loader(self) -> None:
        unfinished, self._unfinished = self._unfinished, None
        first = 0
        if unfinished is not None:
            with naming_state(f"loader {self.loader_key!r}"):
                first = go_on_within_loader(self, unfinished)
        turns, self._batches = iter(self.turns[first:]), iter(self.loader)
        # A loader draws when it makes its workers, and those may be there already: nothing else is to depend on it.
        if unfinished is None:
            seed_everything(self.seed, self.epoch_step, self.engine.process_index)
        else:
            set_rng_state(unfinished["rng"])
        with torch.set_grad_enabled(self.is_train_loader):
            batches = self._ahead(first) if self._reads_ahead else self._batches
            for batch, turn in zip(batches, turns, strict=False):  # asks the loader first
                if self.need_early_stop:
                    self._leave_loader()
                    break
                self._count(turn)
                if self.is_train_loader and turn is self._group[0]:
                    self._unfreezing.follow(self)
                self.batch = send_to_device(batch, self.engine.device, non_blocking=True)
                self._targets.take(batch, self.batch, self.loader_key)
                if turn.samples and not isinstance(batch, StandIn):
                    self.batch_size = batch_size(batch, turn.samples, self._keys_of_samples)
                    self._run_event("on_batch_start")
                    self.handle_batch(batch=self.batch)
                    self._run_event("on_batch_end")
                elif self.is_train_loader:
                    self._stand_in(self.batch)
                self._end_round()
            else:
                for turn in turns:  # that other ranks have and this one has not
                    self._count(turn)
                    self._end_round()
        self.batch = self._batches = None  # nothing of the last step outlives it
        self._targets.drop()
        if self.is_train_loader:
            # Only a step's forward pass makes them equal, and what is validated and saved is behind the last step.
            modules = (*by_name(self.model).values(), *criterion_modules(self.criterion).values())
            copy_from_main_rank(buffer for module in modules for buffer in module.buffers())
        if self._computes_loss:
            state = reduce_state(self.loader_means.state, self.loader_means.reductions)
            self.loader_metrics.update(self.loader_means.compute(state))

    @property
    def _reads_ahead(self) -> bool:
        """Whether a step needs what all its batches count, before the first of them goes through the model."""
        return self.is_train_loader and self._is_shared and any(counted.varies for counted in self._terms)

    @property
    def _is_shared(self) -> bool:
        """Whether several batches, of this rank or of others, make up an optimizer step."""
        return self.accumulate_steps > 1 or bool(self.engine.num_processes > 1)

    def _ahead(self, first: int) -> Iterator[Any]:
        """Yield the loader's batches from that round on, those of an optimizer step when all of them are there."""
        check_ahead(self._terms)
        batches, size = self._batches or iter(()), self.accumulate_steps
        while turns := self.turns[first : (first // size + 1) * size]:
            group = [kept(batch, self.loader) for batch in islice(batches, len(turns))]
            counting = [batch if counts(batch, turn) else None for batch, turn in zip(group, turns, strict=False)]
            self._group_counts = count_group(self._terms, counting, self.engine.device)
            first += len(turns)
            while group:
                yield group.pop(0)

    def _count(self, turn: Turn) -> None:
        """Count a round: its batches once a rank, as Catalyst does, and its samples as they are."""
        self.place, self._turn = turn.place, turn
        self.epoch_rounds += 1
        self.batch_step += self.engine.num_processes
        self.loader_batch_step += self.engine.num_processes
        self.sample_step += turn.round_samples
        self.loader_sample_step += turn.round_samples

    def _leave_loader(self) -> None:
        """End the loader before its time, where a callback has set ``need_early_stop`` within it."""
        if self.engine.num_processes > 1:
            raise UsageError(
                f"need_early_stop was set within loader {self.loader_key!r}: on several processes, which make their "
                "steps together, set it in on_epoch_end."
            )
        self.need_early_stop = False
        for optimizer in by_name(self.optimizer).values():
            optimizer.zero_grad()  # of a group without its end

    def _end_round(self) -> None:
        for hook in list(self._round_hooks.values()):
            hook()

    @property
    def is_between_steps(self) -> bool:
        """Whether, at the end of a round, no batch waits for the optimizer's step, so that the run may be saved."""
        return not self.is_train_loader or self._closes_group

    @property
    def loader_rounds(self) -> int:
        """The rounds of the loader so far: batches of each rank."""
        return int(self.loader_batch_step // self.engine.num_processes)

    def _run_epoch(self) -> None:
        check_same_loaders(self)
        finished = begin_unfinished(self, self._unfinished)
        for key in [key for key in self.loaders if key not in finished]:
            self.loader_key, self.loader = key, self.loaders[key]
            self._run_event("on_loader_start")
            self._run_loader()
            self._run_event("on_loader_end")
        # What follows from it, as early stopping, is decided on each rank, and a callback's metric may be a rank's own.
        agreed = from_main_rank({key: dict(self.epoch_metrics[key]) for key in self.loaders})
        self.history[self.epoch_step] = agreed
        self.epoch_metrics.update({key: dict(metrics) for key, metrics in agreed.items()})
        self._step_schedulers("epoch")

    def _place_in_run(self) -> str:
        if not self.epoch_step or self.loader_key is None:
            return "the start of the run"
        batch = self.loader_batch_step // self.engine.num_processes
        place = f"epoch {self.epoch_step}, loader {self.loader_key!r}"
        return f"{place}, batch {batch} of {self.loader_batch_len}" if batch else f"{place}, before its first batch"

    def _close_log(self, runner: dl.IRunner) -> None:
        self.close_log()
        self.engine.cleanup()

    @property
    def host_targets(self) -> HostTargets:
        """The targets of the batch as the loader gave them; callbacks look at them without reading the device."""
        return self._targets.host

    # -- one step -------------------------------------------------------------------------------------------------

    def handle_batch(self, batch: Mapping[str, Any]) -> None:
        """Run the model on one batch and, on a training loader, take the step."""
        self._targets.check_boxes(self.model)
        with self._gradient_sync():
            with lone_sample_foreseen(self, self.batch_size):
                outputs = self.forward(batch)
            # Before the step: its hooks look at outputs and losses too.
            self.batch = {**batch, **{name: detached(output) for name, output in outputs.items()}}
            if self._computes_loss:
                if not self.is_train_loader:
                    check_outputs(self.losses, outputs, batch, self.loader_key)
                loss, values, counts = self._loss({**batch, **outputs}, self.batch_size)
                self._keep(loss.detach(), values, counts)
                if self.is_train_loader:
                    self._backward(loss, values, counts)
        if self.is_train_loader and self._closes_group:
            self._step()

    def _stand_in(self, batch: Mapping[str, Any]) -> None:
        """Take the step without a batch to count: nobody sees this one, and its gradient is zero.

        Other ranks may have one, or there is none because all images of the batch are bad.
        """
        with self._gradient_sync():
            with lone_sample_foreseen(self, SAMPLES_OF_STAND_IN):
                outputs = self.forward(batch)
            loss, _, _ = self._loss({**batch, **outputs}, samples=0)
            self.engine.backward(0.0 * loss)
        if self._closes_group:
            self._step()
        self.stock_.schedules.step_without_batch()

    def _loss(self, parts: Mapping[str, Any], samples: int) -> tuple[Tensor, list[Tensor], list[Number]]:
        """Return the loss, [], and its terms, not weighted, with what each counts, of a batch with its outputs."""
        known = self._targets.check(self.losses, self.criterion, parts)
        pairs = []
        for counted, of_term in zip(self._terms, known, strict=True):
            naming = self._targets.naming(counted.term, self.criterion, parts)
            with naming, self._loss_watch.looking(counted, self._targets.given):
                pairs.append(counted.value(parts, samples, only_classes=of_term))
        values, counts = [value for value, _ in pairs], [count for _, count in pairs]
        return self._weighted(values), values, counts

    def _weighted(self, values: Sequence[Tensor]) -> Tensor:
        weighed = [_scaled(value, term.weight) for term, value in zip(self.losses, values, strict=True)]
        return weighed[0] if len(weighed) == 1 else torch.stack(weighed).sum()

    @property
    def _computes_loss(self) -> bool:
        """Always in training; in validation where there is a criterion, as ``evaluate_loader`` has none."""
        return self.is_train_loader or (self.is_valid_loader and self.criterion is not None)

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the named outputs of the model, or of all models together."""
        outputs: dict[str, Any] = {}
        for name, model in by_name(self.model).items():
            keys = self.input_key
            if isinstance(keys, Mapping):
                keys = pick(keys, name, "the model", source_name="mapping input_key")
            if not torch.is_grad_enabled():
                model = without_ddp(self.engine, model)  # which talks to ranks that may have no batch
            outputs.update(self._call(model, keys, {**batch, **outputs}))
        return outputs

    @torch.no_grad()
    def predict_batch(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return the named outputs for a batch; ``predict_loader`` calls it."""
        return self.forward(batch)

    def sample_losses(self, parts: Mapping[str, Any]) -> Tensor:
        """Return the loss of each sample, [N]: the weighted sum of all terms, of a batch with its outputs.

        A term adds nothing where nothing of it counts; a sample of which nothing counts in any has ``NO_SCORE``.
        """
        each = [counted.sample_losses(parts, NO_SCORE) for counted in self._terms]
        return weighted_sum(each, [term.weight for term in self.losses])

    def _call(self, model: nn.Module, keys: str | Sequence[str], batch: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(keys, str):
            outputs = model(pick(batch, keys, f"input_key={keys!r}"))
        else:
            outputs = model(**{key: pick(batch, key, f"input_key={list(keys)!r}") for key in keys})
        if not isinstance(outputs, Mapping):
            raise UsageError(
                f"the model must return a dict of named outputs, got a {type(outputs).__name__} from "
                f"{type(plain_module(self.engine, model)).__name__}: return {{'logits': ...}} instead."
            )
        if shared := outputs.keys() & batch.keys():
            raise UsageError(f"the model returns {listing(shared)}, which the batch holds too: rename one of them.")
        return dict(outputs)

    def _keep(self, loss: Tensor, values: Sequence[Tensor], counts: Sequence[Number]) -> None:
        packed = values[0].detach().reshape(1) if len(values) == 1 else torch.stack([*values]).detach()
        self.loader_means.update(packed, counts, self.batch_size)
        labels = self.loader_means.labels
        self.batch_metrics["loss"] = loss
        if len(labels) > 1:
            self.batch_metrics.update(zip(labels, packed.unbind(), strict=True))
        # Of a batch of which nothing counts the loss is 0, and that is no score: callbacks see here what counted.
        named = zip(labels, counts, strict=True)
        self.loss_counts_ = {label: count for label, count in named if isinstance(count, Tensor)}
        if len(self.loss_counts_) == len(labels):
            first, *others = self.loss_counts_.values()
            self.loss_counts_["loss"] = torch.stack([first, *others]).amax() if others else first

    @property
    def _group(self) -> list[Turn]:
        """The rounds of the optimizer step that the current one belongs to, the same on every rank."""
        first = (self.loader_rounds - 1) // self.accumulate_steps * self.accumulate_steps
        return self.turns[first : first + self.accumulate_steps]

    @property
    def _closes_group(self) -> bool:
        return self._turn is self._group[-1]

    @contextmanager
    def _gradient_sync(self) -> Iterator[None]:
        """Leave the gradients of all but the last batch of a group where they are: the last one reduces the sum."""
        with ExitStack() as stack:
            if self.is_train_loader and not self._closes_group:
                for model in by_name(self.model).values():
                    stack.enter_context(self.engine.no_sync(model))
            yield

    def _backward(self, loss: Tensor, values: Sequence[Tensor], counts: Sequence[Number]) -> None:
        # The group's gradient is that of the criteria over all of it on all ranks; the ranks' gradients are averaged.
        ranks, in_group = self.engine.num_processes, sum(turn.round_samples for turn in self._group)
        share = self._turn.samples * ranks / in_group
        shares = [self._share(counted, count, share) for counted, count in zip(self._terms, counts, strict=True)]
        if len(shares) > 1 and any(isinstance(by, Tensor) or by != shares[0] for by in shares):
            self.engine.backward(self._weighted([_scaled(value, by) for value, by in zip(values, shares, strict=True)]))
        else:
            self.engine.backward(_scaled(loss, shares[0]))

    def _share(self, counted: Counted, count: Number, of_samples: float) -> Number:
        """Return the weight of the batch in its term, of 1 for all batches of the step, times the ranks."""
        ranks: int = self.engine.num_processes
        if not self._is_shared or not (counted.varies or counted.adds_up):
            return of_samples
        if counted.adds_up:
            return float(ranks)
        total = self._group_counts[counted.term.label]
        return count * ranks / (total.masked_fill(total == 0, 1) if isinstance(total, Tensor) else total or 1)

    def _step(self) -> None:
        optimizers = list(raw_optimizers(self.optimizer).values())
        average_gradients(own_parameters(self.criterion))
        clips = self.clip_grad_value is not None or self.clip_grad_norm is not None or bool(self.stock_.clipping)
        if clips or self._gradient_hooks:
            self.engine.unscale_optimizers(optimizers)
        for hook in list(self._gradient_hooks.values()):
            hook()
        self.stock_.clipping.clip(self.batch_metrics)
        if self.clip_grad_value is not None:
            nn.utils.clip_grad_value_(self._parameters(), self.clip_grad_value)
        if self.clip_grad_norm is not None:
            self.grad_norm_ = nn.utils.clip_grad_norm_(self._parameters(), self.clip_grad_norm)
        self.engine.step_optimizers(optimizers)
        if self.ema_ is not None:
            self.ema_.update()
        for scheduler in by_name(self.scheduler).values():
            if isinstance(scheduler, WarmUp):
                scheduler.batch_step()
        self._step_schedulers("batch")

    def _step_schedulers(self, moment: str) -> None:
        for name, scheduler in by_name(self.scheduler).items():
            inner = scheduler.scheduler if isinstance(scheduler, WarmUp) else scheduler
            if self.stock_.schedules.has(name):
                continue
            if isinstance(inner, ReduceLROnPlateau):
                if moment == "epoch" and (metric := self.scheduler_monitor.of_epoch(self)) is not None:
                    scheduler.step(metric)
            elif moment == self.scheduler_step:
                scheduler.step()

    def _parameters(self) -> list[nn.Parameter]:
        of_models = [parameter for model in by_name(self.model).values() for parameter in model.parameters()]
        return [*of_models, *own_parameters(self.criterion)]

    def register_gradient_hook(self, hook: Callable[[], None]) -> RemovableHandle:
        """Have a function called before each optimizer step, when the gradients are whole and not yet clipped.

        They are unscaled then, of all batches of the step, and reduced over ranks.

        Returns:
            A handle whose ``remove()`` takes the function out again.
        """
        handle = RemovableHandle(self._gradient_hooks)
        self._gradient_hooks[handle.id] = hook
        return handle

    def register_round_hook(self, hook: Callable[[], None]) -> RemovableHandle:
        """Have a function called when the ranks have done a batch each, also on one that had none in training.

        Returns:
            A handle whose ``remove()`` takes the function out again.
        """
        handle = RemovableHandle(self._round_hooks)
        self._round_hooks[handle.id] = hook
        return handle

    # -- state ----------------------------------------------------------------------------------------------------

    def state_dict(self, *, within_epoch: bool = False) -> dict[str, Any]:
        """Return all that the next step depends on.

        A collective: on several ranks each must call it.

        Args:
            within_epoch: whether the epoch goes on; else it is at its end.
        """
        scaler = self.engine.scaler
        return {
            **self.state_of_parts(),
            "settings": self.settings_,
            "scaler": None if scaler is None else scaler.state_dict(),
            "ema": None if self.ema_ is None else self.ema_.state_dict(),
            "epoch": self.epoch_step - within_epoch,
            "unfinished": unfinished_epoch(self) if within_epoch else None,
            "batch_step": self.batch_step,
            "sample_step": self.sample_step,
            "history": {epoch: {key: dict(of) for key, of in by.items()} for epoch, by in self.history.items()},
            "rng": gather_objects(rng_state()),
            "callbacks": self._callback_states(),
            "loggers": {name: _state(logger) for name, logger in self.loggers.items() if hasattr(logger, "state_dict")},
        }

    def state_of_parts(self) -> dict[str, Any]:
        """Return the states of models, criteria, optimizers and schedulers, which there are from the start on."""
        trained = self.model if self._trained_model is None else self._trained_model
        return {
            "model": {name: weights_of(plain_module(self.engine, model)) for name, model in by_name(trained).items()},
            "criterion": criterion_state(self.criterion),
            "frozen": frozen_parameters(self),
            "optimizer": {name: _state(optimizer) for name, optimizer in by_name(self.optimizer).items()},
            "scheduler": {name: _state(scheduler) for name, scheduler in by_name(self.scheduler).items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        within_epoch = state.get("unfinished") is not None
        for warning in compare_with_checkpoint(state.get("settings") or {}, self.settings_, within_epoch=within_epoch):
            if self.engine.is_main_process:
                _log.warning("%s", warning)
        self.load_model_state(state["model"])
        with naming_state("the criterion"):
            load_criterion_state(self.criterion, state.get("criterion", {}))
        for kind in ("optimizer", "scheduler"):
            parts = by_name(getattr(self, kind))
            _check_names(kind, parts, state[kind])
            for name, part in parts.items():
                with naming_state(f"the {kind}"):
                    (load_optimizer if kind == "optimizer" else _load)(part, state[kind][name])
        with naming_state("what is frozen"):
            freeze_as_before(self, state.get("frozen", frozen_parameters(self)))
        if self.ema_ is not None:
            with naming_state("the moving average of the weights"):
                self.ema_.restart() if state["ema"] is None else self.ema_.load_state_dict(state["ema"])
        if self.engine.scaler is not None and state["scaler"] is not None:
            with naming_state("the loss scaler"):
                self.engine.scaler.load_state_dict(state["scaler"])
        self.epoch_step, self.batch_step = state["epoch"], state["batch_step"]
        self.sample_step = state["sample_step"]
        self.history = {epoch: dict(by_loader) for epoch, by_loader in state["history"].items()}
        rank = self.engine.process_index
        if rank < len(state["rng"]):
            with naming_state("the random generators"):
                set_rng_state(state["rng"][rank])
        self._callback_states_to_load = dict(state["callbacks"])
        self._unfinished = own_part(state, rank)
        for name, logger in self.loggers.items():
            with naming_state(f"the logger {name!r}"):
                if hasattr(logger, "load_history") and name in state["loggers"]:
                    logger.load_history(known_metrics(state), state["loggers"][name])
                elif hasattr(logger, "load_state_dict") and name in state["loggers"]:
                    logger.load_state_dict(state["loggers"][name])

    def _callback_states(self) -> dict[str, list[Any]]:
        """Return the states of the callbacks that have one."""
        having = [it for it in map(inside, self.callbacks.values()) if hasattr(it, "state_dict")]
        return collect_states(having, lambda callback: callback.state_dict())

    def _load_callback_states(self) -> None:
        """Hand back what a resumed run's callbacks had, once; they made themselves new when the run started."""
        states, self._callback_states_to_load = self._callback_states_to_load, {}
        taking = [it for it in map(inside, self.callbacks.values()) if hasattr(it, "load_state_dict")]
        for callback, state in share_out_states(taking, states):
            with naming_state(f"the callback {type(callback).__name__}"):
                callback.load_state_dict(state)

    def load_model_state(self, state: Mapping[str, Any]) -> None:
        """Load the weights alone, the ``model`` entry of ``state_dict``."""
        models = by_name(self.model)
        _check_names("model", models, state)
        for name, model in models.items():
            try:
                load_weights(plain_module(self.engine, model), state[name])
            except RuntimeError as error:
                reason = " ".join(str(error).split())
                raise UsageError(f"the checkpoint does not fit this model: {reason}") from error


def _scaled(value: Tensor, share: Number) -> Tensor:
    if not isinstance(share, Tensor) and share == 1:
        return value
    return value * (share.to(value.dtype) if isinstance(share, Tensor) else share)


def _load(part: Any, state: Mapping[str, Any]) -> None:
    part.load_state_dict(state)


def _state(part: Any) -> dict[str, Any]:
    return dict(part.state_dict())


def _check_names(kind: str, parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    if parts.keys() != state.keys():
        saved, own = ("one" if list(names) == [""] else listing(names) for names in (state, parts))
        raise UsageError(f"the checkpoint does not fit: as {kind} it holds {saved}, the run has {own}.")


def _run_noting(close: Callable[[dl.IRunner], None], runner: dl.IRunner, error: BaseException) -> None:
    """Run a closing step after ``error``; what fails in it is noted on the error and never takes its place."""
    try:
        close(runner)
    except Exception as another:
        if another is not error:
            error.add_note(f"While closing, {another!r} was raised too.")
