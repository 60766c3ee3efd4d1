"""A Catalyst runner for data sets and models that speak in dicts."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from catalyst import dl
from catalyst.core.logger import ILogger
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader
from torch.utils.hooks import RemovableHandle

from assay.callbacks.distributed import gather_objects, reduce_state
from assay.callbacks.errors import UsageError, listing
from assay.callbacks.keys import IMAGE_KEY, pick
from assay.callbacks.measures.weighted_mean import WeightedMean
from assay.callbacks.sample_losses import sample_losses
from assay.callbacks.unwrapped import by_name, detached

from .checkpoints import Checkpoints, load_checkpoint
from .engine import Engine
from .loggers import MetricsCsv, TensorBoardLogger
from .losses import LossTerm, check_terms
from .monitor import Monitor
from .progress import Progress
from .schedulers import WarmUp
from .seeding import rng_state, seed_everything, seed_order, set_rng_state

_LOADER_KINDS = ("train", "valid", "infer")


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

    With ``logdir`` the run writes ``metrics.csv``, ``tensorboard/LOADER/`` and ``checkpoints/`` there.

    Args:
        model: a module that returns a dict of named outputs, or several by name, called in their order, each of
            which may use the outputs of those before it.
        engine: by default ``Engine()``.
        input_key: what the model is given: one key of the batch, handed over as the only argument, or several,
            handed over by name. Of several models, a mapping from the model's name to its key or keys.
        losses: terms of the loss. Their sum is ``loss``; where there are several, each is logged by its name.
        accumulate_steps: batches an optimizer step. The loss is divided so that the gradient is that of the mean
            over all samples of the group; what is left at the end of a loader makes a last, smaller group.
        clip_grad_norm: largest norm of the gradient of all parameters together; None: no limit.
        clip_grad_value: largest absolute value of an element of the gradient; None: no limit.
        scheduler_step: whether the scheduler steps by ``batch`` (optimizer step) or by ``epoch``;
            ``ReduceLROnPlateau`` always steps by epoch.
        scheduler_metric: what ``ReduceLROnPlateau`` watches, as ``LOADER/METRIC``.
        log_every_steps: how often batch metrics are logged.

    Raises:
        UsageError: an argument is out of range; a loader is empty, of an unknown kind or no loader; an item of the
            data set or an output of the model is no dict; a key is missing, or stands on both sides.
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
        scheduler_step: str = "epoch",
        scheduler_metric: str = "valid/loss",
        log_every_steps: int = 10,
    ):
        super().__init__(model=model, engine=engine)
        self.engine: Any = engine
        self.epoch_step: int = 0
        self.batch: Any = None
        self.grad_norm_: Tensor | None = None  # of the last step, before clipping by norm; callbacks read it
        if accumulate_steps < 1:
            raise UsageError(f"accumulate_steps must be at least 1, got {accumulate_steps}.")
        if scheduler_step not in ("batch", "epoch"):
            raise UsageError(f"scheduler_step must be 'batch' or 'epoch', got {scheduler_step!r}.")
        self.input_key = input_key
        self.losses = check_terms(losses)
        self.accumulate_steps = accumulate_steps
        self.clip_grad_norm = clip_grad_norm
        self.clip_grad_value = clip_grad_value
        self.scheduler_step = scheduler_step
        self.scheduler_monitor = Monitor.parse(f"{scheduler_metric}:min")
        self.log_every_steps = log_every_steps
        self.history: dict[int, dict[str, dict[str, float]]] = {}
        self._gradient_hooks: dict[int, Callable[[], None]] = OrderedDict()
        self._callback_states_to_load: dict[str, list[Any]] = {}

    def train(self, *, engine: Engine | None = None, cpu: bool = False, fp16: bool = False, **options: Any) -> None:
        """Train; the arguments are those of Catalyst's ``Runner.train``.

        Args:
            engine: by default the runner's own, or one made from ``cpu`` and ``fp16``.
            cpu: run on the CPU even where there is a GPU.
            fp16: run the forward pass in half precision.
            options: ``loaders``, ``model``, ``criterion``, ``optimizer``, ``scheduler``, ``callbacks``,
                ``loggers``, ``seed``, ``hparams``, ``num_epochs``, ``logdir``, ``resume`` (a run folder or a
                checkpoint), ``valid_loader``, ``valid_metric``, ``minimize_valid_metric``, ``verbose``,
                ``load_best_on_end``.

        Raises:
            UsageError: beside the errors of the class, ``logdir`` holds a run that ``resume`` does not name, or an
                option of Catalyst's is not to be had here.
        """
        _check_options(options)
        super().train(engine=engine or self.engine or _make_engine(cpu, fp16), **options)

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
        """Yield the named outputs for each batch of a loader.

        Args:
            loader: gives dicts; no target is needed.
            model: by default the runner's own.
            engine: see ``train``; after ``train``, by default the one of the run.
            seed: seed of what the model or the loader draws.
            resume: a run folder or a checkpoint to load the weights from.
            cpu: see ``train``.
            fp16: see ``train``.
        """
        self.engine = engine or self.engine or _make_engine(cpu, fp16)
        if model is not None:
            self.model = model
        if resume is not None:
            self.load_model_state(load_checkpoint(resume)["model"])
        yield from super().predict_loader(loader=loader, engine=self.engine, seed=seed)

    # -- what a run is made of ------------------------------------------------------------------------------------

    def get_loggers(self) -> dict[str, ILogger]:
        """Return the loggers: those given to ``train``, or with a ``logdir`` TensorBoard and ``metrics.csv``."""
        loggers = dict(self._loggers or {})
        if self._logdir is not None and not loggers:
            folder = Path(self._logdir)
            loggers["tensorboard"] = TensorBoardLogger(folder / "tensorboard", log_every_steps=self.log_every_steps)
            loggers["csv"] = MetricsCsv(folder / "metrics.csv")
        return loggers

    def get_callbacks(self) -> dict[str, dl.Callback]:
        """Return the callbacks: those given to ``train``, and those that ``logdir`` and ``verbose`` ask for."""
        given = self._callbacks or {}
        callbacks = dict(given) if isinstance(given, Mapping) else {str(i): c for i, c in enumerate(given)}
        present = tuple(type(callback) for callback in callbacks.values())
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
        for key, loader in self.get_loaders().items():
            _check_loader(key, loader)
        super()._setup_loaders()

    def _setup_callbacks(self) -> None:
        # Catalyst would warn that nobody steps the optimizer; this runner does.
        self.callbacks = dict(sorted(self.get_callbacks().items(), key=lambda item: item[1].order))

    # -- events ---------------------------------------------------------------------------------------------------

    def run(self) -> "DictRunner":
        """Run the experiment. An error ends it after callbacks and loggers have saved what they hold."""
        try:
            self._run()
        except (Exception, KeyboardInterrupt) as error:
            self.exception = error
            for close in [*(callback.on_exception for callback in self.callbacks.values()), self._close_log]:
                _run_noting(close, self, error)
            raise
        return self

    def log_hparams(self, *args: Any, **kwargs: Any) -> None:
        """Hand the hyper-parameters to the loggers; a resumed run has logged them already."""
        if self._resume is None:
            super().log_hparams(*args, **kwargs)

    def on_experiment_start(self, runner: dl.IRunner) -> None:
        self.history = {}
        super().on_experiment_start(runner)
        if self._resume is not None:
            self.load_state_dict(load_checkpoint(self._resume))
            for logger in self.loggers.values():
                if hasattr(logger, "resume"):
                    logger.resume(self.epoch_step)

    def on_epoch_start(self, runner: dl.IRunner) -> None:
        super().on_epoch_start(runner)
        self._load_callback_states()

    def on_loader_start(self, runner: dl.IRunner) -> None:
        super().on_loader_start(runner)
        # Catalyst seeds with seed + rank + epoch, so that rank 1 repeats in one epoch what rank 0 draws in the next.
        seed_everything(self.seed, self.epoch_step, self.engine.process_index)
        seed_order(self.loader, self.seed, self.epoch_step)
        self._group_samples = 0
        names = ["loss"] + [term.label for term in self.losses if len(self.losses) > 1]
        self._means = WeightedMean(names, self.engine.device)

    def on_batch_start(self, runner: dl.IRunner) -> None:
        if not isinstance(self.batch, Mapping):
            kind = type(self.batch).__name__
            raise UsageError(
                f"loader {self.loader_key!r} must give dicts, got a {kind}: let the data set return a dict an item, "
                "for example {'image': ..., 'target': ..., 'sample_id': ...}."
            )
        # Catalyst takes the length of the first part as the batch size; of a nested dict that is its number of keys.
        self.batch = dict(sorted(self.batch.items(), key=lambda item: isinstance(item[1], Mapping)))
        super().on_batch_start(runner)

    def _run_loader(self) -> None:
        super()._run_loader()
        self.batch = None  # nothing of the last step outlives it
        if self._computes_loss:
            state = reduce_state(self._means.state, self._means.reductions)
            self.loader_metrics.update(self._means.compute(state))

    def _run_epoch(self) -> None:
        super()._run_epoch()
        self.history[self.epoch_step] = {key: dict(self.epoch_metrics[key]) for key in self.loaders}
        self._step_schedulers("epoch")

    def _close_log(self, runner: dl.IRunner) -> None:
        self.close_log()
        self.engine.cleanup()

    # -- one step -------------------------------------------------------------------------------------------------

    def handle_batch(self, batch: Mapping[str, Any]) -> None:
        """Run the model on one batch and, on a training loader, take the step."""
        outputs = self.forward(batch)
        # Before the step: its hooks look at outputs and losses too.
        self.batch = {**batch, **{name: detached(output) for name, output in outputs.items()}}
        if self._computes_loss:
            parts = {**batch, **outputs}
            values = [term.compute(self.criterion, parts).reshape(()) for term in self.losses]
            terms = torch.stack(values)
            loss = torch.stack([term.weight * value for term, value in zip(self.losses, values, strict=True)]).sum()
            self._keep(loss.detach(), terms.detach())
            if self.is_train_loader:
                self._optimize(loss)

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
            outputs.update(self._call(model, keys, {**batch, **outputs}))
        return outputs

    @torch.no_grad()
    def predict_batch(self, batch: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Return the named outputs for a batch; ``predict_loader`` calls it."""
        return self.forward(batch)

    def sample_losses(self, parts: Mapping[str, Any]) -> Tensor:
        """Return the loss of each sample, [N]: the weighted sum of all terms, of a batch with its outputs."""
        losses = []
        for term in self.losses:
            output, target = pick(parts, term.output, str(term)), pick(parts, term.target, str(term))
            losses.append(term.weight * sample_losses(term.pick_criterion(self.criterion), output, target))
        return torch.stack(losses).sum(dim=0)

    def _call(self, model: nn.Module, keys: str | Sequence[str], batch: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(keys, str):
            outputs = model(pick(batch, keys, f"input_key={keys!r}"))
        else:
            outputs = model(**{key: pick(batch, key, f"input_key={list(keys)!r}") for key in keys})
        if not isinstance(outputs, Mapping):
            raise UsageError(
                f"the model must return a dict of named outputs, got a {type(outputs).__name__} from "
                f"{type(self.engine.unwrap_model(model)).__name__}: return {{'logits': ...}} instead."
            )
        if shared := outputs.keys() & batch.keys():
            raise UsageError(f"the model returns {listing(shared)}, which the batch holds too: rename one of them.")
        return dict(outputs)

    def _keep(self, loss: Tensor, terms: Tensor) -> None:
        values = torch.cat([loss.reshape(1), terms]) if len(terms) > 1 else loss.reshape(1)
        self._means.update(values, self.batch_size)
        self.batch_metrics.update(zip(self._means.names, values.unbind(), strict=True))

    def _optimize(self, loss: Tensor) -> None:
        # A group's gradient is the sum over its batches of (samples / planned samples) * gradient of the batch mean.
        planned = self.batch_size
        if self.accumulate_steps > 1:
            planned = self.loader_batch_size * self.accumulate_steps
        self.engine.backward(loss * (self.batch_size / planned))
        self._group_samples += self.batch_size
        made = self.loader_batch_step // self.engine.num_processes
        if made % self.accumulate_steps and made < self.loader_batch_len:
            return
        if self._group_samples != planned:
            gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
            torch._foreach_mul_(gradients, planned / self._group_samples)
        self._group_samples = 0
        self._step()

    def _step(self) -> None:
        clips = self.clip_grad_value is not None or self.clip_grad_norm is not None
        if clips or self._gradient_hooks:
            self.engine.unscale_gradients()  # once: a scaler refuses to do it twice
        for hook in list(self._gradient_hooks.values()):
            hook()
        if self.clip_grad_value is not None:
            nn.utils.clip_grad_value_(self._parameters(), self.clip_grad_value)
        if self.clip_grad_norm is not None:
            self.grad_norm_ = nn.utils.clip_grad_norm_(self._parameters(), self.clip_grad_norm)
        for optimizer in by_name(self.optimizer).values():
            optimizer.step()
            optimizer.zero_grad()
        for scheduler in by_name(self.scheduler).values():
            if isinstance(scheduler, WarmUp):
                scheduler.batch_step()
        self._step_schedulers("batch")

    def _step_schedulers(self, moment: str) -> None:
        for scheduler in by_name(self.scheduler).values():
            inner = scheduler.scheduler if isinstance(scheduler, WarmUp) else scheduler
            if isinstance(inner, ReduceLROnPlateau):
                if moment == "epoch":
                    scheduler.step(self.scheduler_monitor.value(self.history[self.epoch_step]))
            elif moment == self.scheduler_step:
                scheduler.step()

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for model in by_name(self.model).values() for parameter in model.parameters()]

    def register_gradient_hook(self, hook: Callable[[], None]) -> RemovableHandle:
        """Have a function called before each optimizer step, when the gradients are whole and not yet clipped.

        They are unscaled then, of all batches of the step, and reduced over ranks.

        Returns:
            A handle whose ``remove()`` takes the function out again.
        """
        handle = RemovableHandle(self._gradient_hooks)
        self._gradient_hooks[handle.id] = hook
        return handle

    # -- state ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next epoch depends on, in types that ``weights_only=True`` loads.

        A collective: on several ranks each must call it.
        """
        scaler = self.engine.scaler
        return {
            "model": {name: _state(self.engine.unwrap_model(model)) for name, model in by_name(self.model).items()},
            "optimizer": {name: _state(optimizer) for name, optimizer in by_name(self.optimizer).items()},
            "scheduler": {name: _state(scheduler) for name, scheduler in by_name(self.scheduler).items()},
            "scaler": None if scaler is None else scaler.state_dict(),
            "epoch": self.epoch_step,
            "batch_step": self.batch_step,
            "sample_step": self.sample_step,
            "history": {epoch: {key: dict(of) for key, of in by.items()} for epoch, by in self.history.items()},
            "rng": gather_objects(rng_state()),
            "callbacks": self._callback_states(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self.load_model_state(state["model"])
        for kind in ("optimizer", "scheduler"):
            parts = by_name(getattr(self, kind))
            _check_names(kind, parts, state[kind])
            for name, part in parts.items():
                part.load_state_dict(state[kind][name])
        if self.engine.scaler is not None and state["scaler"] is not None:
            self.engine.scaler.load_state_dict(state["scaler"])
        self.epoch_step, self.batch_step = state["epoch"], state["batch_step"]
        self.sample_step = state["sample_step"]
        self.history = {epoch: dict(by_loader) for epoch, by_loader in state["history"].items()}
        rank = self.engine.process_index
        if rank < len(state["rng"]):
            set_rng_state(state["rng"][rank])
        self._callback_states_to_load = dict(state["callbacks"])

    def _callback_states(self) -> dict[str, list[Any]]:
        """Return the states of the callbacks that have one: by class, those of a class in their order."""
        states: dict[str, list[Any]] = {}
        for callback in self.callbacks.values():
            if hasattr(callback, "state_dict"):
                states.setdefault(type(callback).__name__, []).append(callback.state_dict())
        return states

    def _load_callback_states(self) -> None:
        """Hand back what a resumed run's callbacks had, once; they made themselves new when the run started."""
        states, self._callback_states_to_load = self._callback_states_to_load, {}
        for callback in self.callbacks.values():
            if hasattr(callback, "load_state_dict") and (mine := states.get(type(callback).__name__)):
                callback.load_state_dict(mine.pop(0))

    def load_model_state(self, state: Mapping[str, Any]) -> None:
        """Load the weights alone, the ``model`` entry of ``state_dict``."""
        models = by_name(self.model)
        _check_names("model", models, state)
        for name, model in models.items():
            try:
                self.engine.unwrap_model(model).load_state_dict(state[name])
            except RuntimeError as error:
                reason = " ".join(str(error).split())
                raise UsageError(f"the checkpoint does not fit this model: {reason}") from error


def _check_options(options: Mapping[str, Any]) -> None:
    for name in ("check", "overfit", "timeit", "profile"):
        if options.get(name):
            raise UsageError(f"{name}=True is not to be had with DictRunner: leave it out.")
    logdir = options.get("logdir")
    if logdir is None:
        if options.get("load_best_on_end"):
            raise UsageError("load_best_on_end=True needs a logdir, where the checkpoints are.")
        return
    if options.get("load_best_on_end") and not (options.get("valid_loader") and options.get("valid_metric")):
        raise UsageError("load_best_on_end=True needs valid_loader and valid_metric, which tell what is best.")
    if options.get("resume") is None and any((Path(logdir) / name).exists() for name in ("metrics.csv", "checkpoints")):
        raise UsageError(f"logdir {str(logdir)!r} holds a run already: choose another, or pass resume={str(logdir)!r}.")


def _make_engine(cpu: bool, fp16: bool) -> Engine:
    return Engine("cpu" if cpu else "auto", "fp16" if fp16 else "fp32")


def _state(part: Any) -> dict[str, Any]:
    return dict(part.state_dict())


def _check_names(kind: str, parts: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    if parts.keys() != state.keys():
        raise UsageError(f"the checkpoint does not fit: its {kind} holds {listing(state)}, the run's {listing(parts)}.")


def _check_loader(key: str, loader: Any) -> None:
    if not key.startswith(_LOADER_KINDS):
        raise UsageError(f"the name of a loader must begin with one of {listing(_LOADER_KINDS)}, got {key!r}.")
    if not isinstance(loader, DataLoader):
        raise UsageError(f"loader {key!r} must be a torch DataLoader, got a {type(loader).__name__}.")
    if len(loader) == 0:
        dataset: Any = loader.dataset
        raise UsageError(
            f"loader {key!r} is empty: its data set has {len(dataset)} items, batch_size is "
            f"{loader.batch_size} and drop_last is {loader.drop_last}."
        )


def _run_noting(close: Callable[[dl.IRunner], None], runner: dl.IRunner, error: BaseException) -> None:
    """Run a closing step after ``error``; what fails in it is noted on the error and never takes its place."""
    try:
        close(runner)
    except Exception as another:
        if another is not error:
            error.add_note(f"While closing, {another!r} was raised too.")
