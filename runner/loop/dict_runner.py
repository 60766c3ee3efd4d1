"""A Catalyst runner for data sets and models that speak in dicts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import send_to_device
from catalyst import dl
from catalyst.core.logger import ILogger
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from assay.callbacks.keys import IMAGE_KEY, SAMPLE_ID_KEY
from assay.callbacks.support.distributed import copy_from_main_rank, gather_objects
from assay.callbacks.support.host_targets import HostTargets
from assay.callbacks.support.runner_view import BatchPlace
from assay.callbacks.support.unwrap import detached

from ..data.batch_size import keys_in
from ..data.seeding import seed_everything
from ..data.sharding import end_workers, shard_loader
from ..engine.catalyst_names import DistributedDataParallelEngine
from ..engine.engine import Engine
from ..processes.early_stop import StoppedEarly
from ..recipe.criteria import own_tensors, warn_of_not_optimized
from ..recipe.losses import LossTerm, check_outputs, check_terms
from ..recipe.monitor import Monitor
from ..recipe.weight_average import MovingAverage, prepared_average
from ..saving.checkpoint_files import load_checkpoint, validated_weights
from ..saving.resume import decided_by_main_rank, newest_checkpoint
from .checks.loss_watch import LossWatch
from .checks.run_checks import LOADER_KINDS, check_batch, check_engine, check_loaders, check_options, check_steps
from .checks.target_checks import TargetChecks
from .epoch_loop import EpochLoop, modules_of
from .failed_run import close_failed_run
from .optimizer_step import OptimizerStep
from .parts.forward_pass import call_models, prepare_to_predict
from .parts.host_memory import keep_freed_memory
from .parts.loader_loss import BatchLoss, LoaderLoss
from .parts.lone_samples import lone_sample_foreseen
from .run_outputs import complete_callbacks, complete_loggers
from .run_page import ShownInNotebook
from .state.rank_settings import rank_settings
from .state.run_state import COMPONENTS, RunState, load_models
from .state.settings import check_same_on_all, runner_settings
from .state.unfreezing import Unfreezing
from .stock import StockCallbacks


class DictRunner(ShownInNotebook, dl.Runner):
    """Trains a model that takes its inputs from a dict and returns its outputs as one.

    The outputs join the inputs in ``runner.batch``, where callbacks find both by name; a name on both sides is an
    error. Loader names begin with ``train``, ``valid`` or ``infer`` and decide the mode, as always in Catalyst.

    On several processes each loader is shared out: ``batch_size`` is that of one process, and every sample counts
    once. The optimizer step is that of one process with the batches of all of them (see ``Shard``).

    Catalyst's own callbacks work beside it. A ``SchedulerCallback`` steps its scheduler in the runner's place, and the
    clipping of ``BackwardCallback`` and ``OptimizerCallback`` is made before each step; what asks for another loss,
    step or loader than the runner's is refused before the first step (see ``assay.runner.loop.stock``).

    With ``logdir`` the run writes ``metrics.csv``, ``checkpoints/``, ``results/`` and ``LOADER/`` of events there.

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

    Example:
        >>> from torch import nn
        >>> from assay.callbacks import Metrics
        >>> class Net(nn.Linear):
        ...     def forward(self, image):
        ...         return {"logits": super().forward(image.flatten(1))}
        >>> model = Net(48, 2)
        >>> items = [{"image": torch.full((3, 4, 4), index % 2 - 0.5), "target": index % 2} for index in range(32)]
        >>> runner = DictRunner(losses=[LossTerm("logits", "target")])
        >>> runner.train(
        ...     model=model, criterion=nn.CrossEntropyLoss(), num_epochs=2,
        ...     loaders={"train": DataLoader(items, batch_size=8), "valid": DataLoader(items, batch_size=8)},
        ...     optimizer=torch.optim.SGD(model.parameters(), lr=0.1), callbacks=[Metrics(["accuracy"], num_classes=2)],
        ... )
        >>> runner.history[2]["valid"]["accuracy"]
        1.0
    """

    engine: Any
    need_early_stop: bool
    place = BatchPlace(0, 0)  # of the batch in the loader of all ranks; callbacks read it, and the next three
    loader_batches = 0  # of all ranks
    epoch_rounds = 0  # batches of each rank in the epoch so far, over its loaders
    ema_: MovingAverage | None = None
    is_sanity_check = False  # see SanityCheck
    # What the ranks must agree on, and what a checkpoint is compared by: the arguments that decide on the steps.
    options_of_steps = ("accumulate_steps", "clip_grad_norm", "clip_grad_value", "ema_decay", "scheduler_step")
    _trained_model: Any = None  # while validation uses the average

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
        check_steps(accumulate_steps, scheduler_step)
        self.input_key = input_key
        self.losses = check_terms(losses)
        self.accumulate_steps = accumulate_steps
        self.clip_grad_norm = clip_grad_norm
        self.clip_grad_value = clip_grad_value
        self.ema_decay = ema_decay
        self.scheduler_step = scheduler_step
        self.scheduler_monitor = Monitor.parse(f"{scheduler_metric}:min")
        self.log_every_steps = log_every_steps
        self.history: dict[int, dict[str, dict[str, float]]] = {}
        self.all_loaders: dict[str, DataLoader[Any]] = {}
        self.optimizer_step = OptimizerStep(self)
        self.run_state = RunState(self)
        self.loop = EpochLoop(self)
        self.keys_of_samples = {SAMPLE_ID_KEY, *keys_in(input_key), *(term.target for term in self.losses)}
        self.targets = TargetChecks()

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
                option of Catalyst's is not supported.
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
        name = "the model" if resume is None else f"checkpoint {resume}"
        self.model = prepare_to_predict(self.model, self.engine, name)
        sharded = self._shard(loader, trains=False)
        shard: Any = sharded.batch_sampler
        shard.draw_epoch(seed, 0)
        seed_everything(seed)
        for batch in sharded:
            yield self.predict_batch(send_to_device(batch, self.engine.device, non_blocking=True))

    # -- what a run is made of ------------------------------------------------------------------------------------

    def get_loggers(self) -> dict[str, ILogger]:
        """Return the loggers given to ``train``; with a ``logdir`` also TensorBoard and ``metrics.csv``."""
        return complete_loggers(self)

    def get_callbacks(self) -> dict[str, dl.Callback]:
        """Return the callbacks: those given to ``train``, and those that ``logdir`` and ``verbose`` ask for."""
        return complete_callbacks(self)

    def _setup_loaders(self) -> None:
        # Not by accelerate: it pads the shards, or lets some end early, which hangs a run that trains.
        loaders = self.get_loaders().items()
        self.loaders = {key: self._shard(loader, trains=key.startswith("train")) for key, loader in loaders}
        self.all_loaders = dict(self.loaders)  # of which PeriodicLoaderCallback leaves some out of an epoch

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
            close_failed_run(self, error)
            raise
        finally:
            end_workers(self.all_loaders.values(), self.loop.batches)
        return self

    def log_hparams(self, *args: Any, **kwargs: Any) -> None:
        """Log the hyper-parameters, unless the run is resumed and has logged them already."""
        if self._resume is None:
            super().log_hparams(*args, **kwargs)

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.history, self._trained_model, self.ema_ = {}, None, None
        self.run_state = RunState(self)
        if self.engine.device.type == "cpu":
            keep_freed_memory()
        # First, on all ranks: the set-up lets the main one go ahead, and where that fails the others wait for it.
        check_loaders(self.get_loaders(), self.engine.num_processes)
        self.settings_ = runner_settings(self)
        check_same_on_all({**self.settings_, **rank_settings(self)} if self.engine.num_processes > 1 else {})
        super().on_experiment_start(runner)
        copy_from_main_rank(own_tensors(self.criterion))  # as DDP does with a model
        if self.engine.is_main_process:
            warn_of_not_optimized(self.optimizer, self.criterion)
        self._loss_watch = LossWatch(is_main=self.engine.is_main_process)
        if self.ema_decay is not None:
            self.ema_ = prepared_average(self.model, self.ema_decay, self.engine)
        self.unfreezing = Unfreezing(self)
        if self._resume is not None:
            self.load_state_dict(load_checkpoint(decided_by_main_rank(lambda: newest_checkpoint(self._resume))))

    # The next three leave Catalyst's own out: those refuse a rank without a batch, seed with seed + rank + epoch, so
    # that rank 1 repeats in one epoch what rank 0 draws in the next, and count what a rank has once for all ranks.

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        self.epoch_step += 1
        self.epoch_rounds = 0
        self.epoch_metrics: dict[str, dict[str, float]] = {"_epoch_": {}}
        seed_everything(self.seed, self.epoch_step, self.engine.process_index)
        self.run_state.restore_callbacks()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        self.is_train_loader, self.is_valid_loader, self.is_infer_loader = (
            self.loader_key.startswith(kind) for kind in LOADER_KINDS
        )
        self.loop.start_loader()
        self._use_trained_model()
        if self.ema_ is not None and not self.is_train_loader:
            self._use_average(self.ema_)
        for module in modules_of(self):
            module.train(self.is_train_loader)
        losses = () if self.is_infer_loader else self.losses
        self.loader_loss = LoaderLoss(losses, self.criterion, self.targets, self._loss_watch, self.engine.device)

    def on_batch_start(self, runner: dl.IRunner) -> None:
        check_batch(self.batch, self.loader_key)
        self.batch_metrics: dict[str, Any] = {}
        self.loss_counts_: dict[str, Tensor] = {}

    def on_loader_end(self, runner: dl.IRunner) -> None:
        super().on_loader_end(runner)
        self._use_trained_model()

    def on_epoch_end(self, runner: dl.IRunner) -> None:
        super().on_epoch_end(runner)
        # A callback may decide by what its rank alone has seen, and all ranks have to end together.
        self.need_early_stop = any(gather_objects(self.need_early_stop))

    @property
    def trained_model(self) -> Any:
        """The model that the optimizer steps, or several by name, also while validation uses their average."""
        return self.model if self._trained_model is None else self._trained_model

    def _use_trained_model(self) -> None:
        self.model, self._trained_model = self.trained_model, None

    def _use_average(self, average: MovingAverage) -> None:
        models = average.models
        self._trained_model, self.model = self.model, models if isinstance(self.model, Mapping) else models[""]

    # -- the loop -------------------------------------------------------------------------------------------------

    def _run_epoch(self) -> None:
        self.loop.run_epoch()

    @property
    def is_between_steps(self) -> bool:
        """Whether, at the end of a round, no batch waits for the optimizer's step, so that the run may be saved."""
        return not self.is_train_loader or self.optimizer_step.closes_group

    @property
    def loader_rounds(self) -> int:
        """The rounds of the loader so far: batches of each rank."""
        return int(self.loader_batch_step // self.engine.num_processes)

    # -- one batch ------------------------------------------------------------------------------------------------

    def handle_batch(self, batch: Mapping[str, Any]) -> None:
        """Run the model on one batch and, on a training loader, take the step."""
        self.targets.check_boxes(self.model)
        with self.optimizer_step.gradient_sync():
            with lone_sample_foreseen(self, self.batch_size):
                outputs = self.forward(batch)
            # Before the step: its hooks look at outputs and losses too.
            self.batch = {**batch, **{name: detached(output) for name, output in outputs.items()}}
            if self.computes_loss:
                if not self.is_train_loader:
                    check_outputs(self.losses, outputs, batch, self.loader_key)
                loss = self.loader_loss.compute({**batch, **outputs}, self.batch_size)
                self._accumulate_losses(loss)
                if self.is_train_loader:
                    self.optimizer_step.backward(loss)
        if self.is_train_loader and self.optimizer_step.closes_group:
            self._take_step()

    def _take_step(self) -> None:
        self.optimizer_step.take()

    def _accumulate_losses(self, loss: BatchLoss) -> None:
        """Add the losses of a batch to the means of the loader, and show them to callbacks."""
        self.batch_metrics["loss"] = loss.total.detach()
        self.batch_metrics.update(self.loader_loss.accumulate(loss, self.batch_size))
        # Of a batch of which nothing counts the loss is 0, and that is no score: callbacks see here what counted.
        self.loss_counts_ = self.loader_loss.device_counts(loss)

    @property
    def computes_loss(self) -> bool:
        """Always in training; in validation where there is a criterion, as ``evaluate_loader`` has none."""
        return self.is_train_loader or (self.is_valid_loader and self.criterion is not None)

    @property
    def host_targets(self) -> HostTargets:
        """The targets of the batch as the loader gave them; callbacks look at them without reading the device."""
        return self.targets.host

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the named outputs of the model, or of all models together."""
        return call_models(self.model, self.input_key, batch, self.engine)

    @torch.no_grad()
    def predict_batch(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return the named outputs for a batch; ``predict_loader`` calls it."""
        return self.forward(batch)

    def sample_losses(self, parts: Mapping[str, Any]) -> Tensor:
        """Return the loss of each sample, [N]: the weighted sum of all terms, of a batch with its outputs.

        A term adds nothing where nothing of it counts; a sample of which nothing counts in any has ``NO_SCORE``.
        """
        return self.loader_loss.sample_losses(parts)

    @property
    def grad_norm_(self) -> Tensor | None:
        """Norm of the gradient at the last step before it was clipped by ``clip_grad_norm``; callbacks read it."""
        return self.optimizer_step.grad_norm

    def register_gradient_hook(self, hook: Callable[[], None]) -> RemovableHandle:
        """Have a function called before each optimizer step, when the gradients are whole and not yet clipped.

        They are unscaled then, of all batches of the step, and reduced over ranks.

        Returns:
            A handle whose ``remove()`` takes the function out again.
        """
        return self.optimizer_step.register_hook(hook)

    def register_round_hook(self, hook: Callable[[], None]) -> RemovableHandle:
        """Call a function after each round, also on a rank without a batch in it; return a handle to remove it."""
        return self.loop.register_round_hook(hook)

    # -- state ----------------------------------------------------------------------------------------------------

    def state_dict(self, *, within_epoch: bool = False) -> dict[str, Any]:
        """Return all that the next step depends on.

        A collective: on several ranks each must call it.

        Args:
            within_epoch: whether the epoch goes on; else it is at its end.
        """
        return self.run_state.save(within_epoch=within_epoch)

    def state_of_parts(self) -> dict[str, Any]:
        """Return the states of models, criteria, optimizers and schedulers, which there are from the start on."""
        return {part.key: part.save(self) for part in COMPONENTS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self.run_state.load(state)

    def load_model_state(self, state: Mapping[str, Any]) -> None:
        """Load the weights alone, the ``model`` entry of ``state_dict``."""
        load_models(self.model, state, self.engine)
