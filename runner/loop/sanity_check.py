"""Try out the validation before the first epoch, so that an error in it costs no epoch."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torchmetrics
from catalyst import dl
from catalyst.callbacks.misc import IEpochMetricHandlerCallback
from catalyst.core.callback import ICheckpointCallback
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset

from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.base.order import FIRST
from assay.callbacks.errors import UsageError
from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.overhead.budget import OverheadBudget
from assay.callbacks.results.results import Results
from assay.callbacks.samples.prediction_table import PredictionTable
from assay.callbacks.support.buffer_snapshot import BufferSnapshot
from assay.callbacks.support.distributed import from_main_rank
from assay.callbacks.support.rng import RngState
from assay.callbacks.support.unwrap import by_name, inside
from assay.callbacks.tensorboard.writer import Writer
from assay.callbacks.training.hparams import HParams

from ..data.bad_images import BadImages
from ..data.sharding import end_workers
from ..recipe.early_stopping import EarlyStopping
from ..recipe.monitor import Monitor
from .batch_limits import limit_batches
from .checks.known_monitors import KnownMonitors
from .checks.loss_watch import LossWatch
from .checks.target_checks import TargetChecks
from .epoch_loop import EpochLoop, modules_of
from .optimizer_step import OptimizerStep
from .progress import Progress
from .state.run_state import RunState
from .stop_on_signal import StopOnSignal

# What saves, prints, times, counts epochs or ends the run: nothing of it is about validation itself.
_LEFT_OUT = (
    ICheckpointCallback, StopOnSignal, Progress, EarlyStopping, KnownMonitors, BadImages, Results, PredictionTable,
    HParams, NonFiniteGuard, OverheadBudget, IEpochMetricHandlerCallback, dl.PeriodicLoaderCallback,
    dl.ProfilerCallback, dl.SchedulerCallback, dl.TimerCallback, dl.TqdmCallback, dl.CheckRunCallback,
)  # fmt: skip
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_log = logging.getLogger("assay")


class SanityCheck(dl.Callback):
    """Runs a few batches of each loader for validation before the first epoch of a ``DictRunner``, and leaves no trace.

    Copies of the other callbacks see these batches, but for those that save, print or stop; loggers get nothing. Then
    weights, buffers, random numbers, the order of the data and all callbacks are as before, bit by bit. What a callback
    of the user's does outside of itself, such as to write a file, it does here too, unless it asks
    ``runner.is_sanity_check``.

    Put it first among the callbacks.

    Args:
        batches: how many of each loader, of each process; 0: none.
        monitors: the metrics that validation has to have.

    Raises:
        UsageError: at the start of a run with a loader for training, a monitor names no metric.
    """

    def __init__(self, batches: int = 1, monitors: Sequence[Monitor] = ()):
        super().__init__(order=FIRST)
        if batches < 0:
            raise UsageError(f"sanity_batches must be at least 0, got {batches}.")
        self.batches = batches
        self.monitors = list(monitors)

    def on_experiment_start(self, runner: Any) -> None:
        loaders = dict(runner.get_loaders())
        validating = {key: loader for key, loader in loaders.items() if key.startswith("valid")}
        # Without training there is no epoch to save.
        if not self.batches or not validating or not any(key.startswith("train") for key in loaders):
            return
        few = limit_batches(validating, self.batches, runner.engine.num_processes)
        copies, uncopied = _copies(runner, self)
        if uncopied and runner.engine.is_main_process:
            _log.warning("the validation before the first epoch leaves out %s, of which no copy can be made", uncopied)
        metrics = _validate(runner, few, copies)
        if not uncopied:  # those might add metrics too
            self._check_monitors(metrics)

    def _check_monitors(self, metrics: Mapping[str, Mapping[str, float]]) -> None:
        for monitor in self.monitors:
            if monitor.loader not in metrics or monitor.metric in metrics[monitor.loader]:
                continue
            try:
                monitor.value(metrics)
            except UsageError as error:
                raise UsageError(
                    f"{error} So it is after --sanity-batches {self.batches}; with 0 the first epoch decides."
                ) from error


def _validate(run: Any, loaders: Mapping[str, DataLoader[Any]], callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of loaders by name, after a pass over them that leaves no trace in the run."""
    shards: dict[str, DataLoader[Any]] = {}
    with _without_trace(run), _naming_itself():
        run.is_sanity_check = True
        run.callbacks = _TakingPart(callbacks, run.callbacks)
        run.loggers = {name: SilentLogger() for name in run.loggers}
        # New ones, which hold what the callbacks attach to the run, and know of no epoch to go on with.
        run.loop, run.optimizer_step, run.run_state = EpochLoop(run), OptimizerStep(run), RunState(run)
        run.targets, run._loss_watch = TargetChecks(), LossWatch(is_main=False)
        try:
            for callback in run.callbacks.values():
                callback.on_experiment_start(run)
            run._run_event("on_epoch_start")
            for key, loader in loaders.items():
                shards[key] = _with_one_worker(run._shard(loader, trains=False))
                run.loop.run_loader(key, shards[key])
            return from_main_rank({key: dict(run.epoch_metrics[key]) for key in loaders})
        finally:
            for callback in map(inside, run.callbacks.values()):
                if isinstance(callback, Diagnostic):
                    callback.release(run)
            end_workers(shards.values(), run.loop.batches)


def _with_one_worker(loader: DataLoader[Any]) -> DataLoader[Any]:
    # More would start, and read ahead, for nothing.
    loader.__dict__.update(num_workers=min(1, loader.num_workers), persistent_workers=False)
    return loader


@contextmanager
def _naming_itself() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        error.add_note("in the validation before the first epoch, which --sanity-batches 0 leaves out")
        raise


@contextmanager
def _without_trace(run: Any) -> Iterator[None]:
    """Restore the attributes of the run, the models with their hooks and buffers, and the random numbers."""
    attributes, modules = dict(vars(run)), _all_modules(run)
    modes = [(module, module.training) for module in modules]
    hooks = [(of, dict(of)) for module in modules for of in (getattr(module, name) for name in _HOOKS)]
    buffers = BufferSnapshot(chain.from_iterable(module.buffers(recurse=False) for module in modules))
    buffers.take()
    chance = RngState.take(run.engine.device)
    try:
        yield
    finally:
        vars(run).clear()
        vars(run).update(attributes)
        chance.restore()
        buffers.restore()
        for module, mode in modes:
            module.training = mode
        for of, before in hooks:
            of.clear()
            of.update(before)


def _all_modules(run: Any) -> list[nn.Module]:
    averages = [] if run.ema_ is None else run.ema_.models.values()
    return list(dict.fromkeys(part for module in (*modules_of(run), *averages) for part in module.modules()))


def _copies(run: Any, itself: dl.Callback) -> tuple[dict[str, Any], str]:
    """Return copies of the callbacks that take part, and the names of those that cannot be copied."""
    parts = (run.model, run.criterion, run.optimizer, run.scheduler, run.loaders, run.loggers, dict(run.get_loaders()))
    shared = [run, run.engine, *(one for part in parts for one in by_name(part).values())]
    copies, uncopied = {}, []
    for name, callback in run.callbacks.items():
        if callback is itself or isinstance(inside(callback), _LEFT_OUT):
            continue
        try:
            copies[name] = _copy(callback, shared)
        except Exception:  # noqa: BLE001 - the user's own may hold anything, such as an open file
            uncopied.append(type(inside(callback)).__name__)
    return copies, ", ".join(uncopied)


def _copy(callback: Any, shared: Sequence[Any]) -> Any:
    """Return a deep copy of a callback that shares the parts of the run, and models and data of its own."""
    other = copy.copy(callback)
    if isinstance(other, Diagnostic):
        other.writers_ = {}  # of a run before
    own = [part for part in vars(other).values() if isinstance(part, nn.Module | Dataset | DataLoader | Optimizer)]
    own = [part for part in own if not isinstance(part, torchmetrics.Metric)]
    return copy.deepcopy(other, {id(part): part for part in (*shared, *own)})


class _TakingPart(dict[str, Any]):
    """The callbacks that take part. One that does not is found by its name all the same, where another asks for it."""

    def __init__(self, copies: Mapping[str, Any], all_of_them: Mapping[str, Any]):
        super().__init__(copies)
        self.all_of_them = all_of_them

    def __missing__(self, name: str) -> Any:
        return self.all_of_them[name]


class SilentLogger:
    """Stands for a logger of any kind, and drops what it is given: whatever is asked of it is itself."""

    def get_writer(self, loader_key: str) -> Writer:
        """Return a writer that drops everything."""
        return Writer(None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        return self
