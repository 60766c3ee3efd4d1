"""Try out the validation before the first epoch, so that an error in it costs no epoch."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from catalyst import dl
from catalyst.callbacks.misc import IEpochMetricHandlerCallback
from catalyst.core.callback import ICheckpointCallback
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.base.order import FIRST
from assay.callbacks.errors import UsageError, listing
from assay.callbacks.findings.findings import Findings
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
from .callback_copies import copy_callback, parts_to_share
from .checks.known_monitors import KnownMonitors
from .checks.loss_watch import LossWatch
from .checks.target_checks import TargetChecks
from .epoch_loop import EpochLoop, modules_of
from .fault_messages import explain, note_place
from .optimizer_step import OptimizerStep
from .progress import Progress
from .state.run_state import RunState
from .stop_on_signal import StopOnSignal

# What saves, prints, times, counts epochs or ends the run: nothing of it is about validation itself.
_LEFT_OUT = (
    ICheckpointCallback, StopOnSignal, Progress, EarlyStopping, KnownMonitors, BadImages, Results, PredictionTable,
    Findings, HParams, NonFiniteGuard, OverheadBudget, IEpochMetricHandlerCallback, dl.PeriodicLoaderCallback,
    dl.ProfilerCallback, dl.SchedulerCallback, dl.TimerCallback, dl.TqdmCallback, dl.CheckRunCallback,
)  # fmt: skip
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_PLAIN = (str, int, float, Path, type(None))
_LIKE_A_TYPO = 0.85  # of difflib: one letter more, less or other in seven
_NOT_COPIED = (
    "%s is left out of the validation that is tried out before the first epoch, as no copy of it can be made (%s): an "
    "error in it would show at the end of the first epoch only"
)
_log = logging.getLogger("assay")


class SanityCheck(dl.Callback):
    """Runs a few batches of each loader for validation before the first epoch of a ``DictRunner``, and leaves no trace.

    Copies of the other callbacks see these batches, but for those that save, print or stop; loggers get nothing. Then
    weights, buffers, random numbers, the order of the data and all callbacks are as before, bit by bit. What a callback
    of the user's does outside of itself, such as to write a file, it does here too, unless it asks
    ``runner.is_sanity_check``.

    A monitor of a metric of training is refused where the metric is neither among those of validation nor a term of the
    loss, but spelt nearly like one of these. Callbacks of assay measure the same in both, so that it has to be a typo;
    where there are callbacks of others, which may measure something in training alone, a warning takes its place.

    Put it first among the callbacks.

    Args:
        batches: how many of each loader, of each process; 0: none.
        monitors: the metrics that there have to be.

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
        if runner.engine.is_main_process:
            for name, reason in uncopied.items():
                _log.warning(_NOT_COPIED, name, reason)
        metrics = _validate(runner, few, copies)
        if not uncopied:  # those might add metrics too
            self._check_monitors(metrics)
            self._check_training_monitors(metrics, runner)

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

    def _check_training_monitors(self, metrics: Mapping[str, Mapping[str, float]], runner: Any) -> None:
        known = dict.fromkeys(name for of in metrics.values() for name in of)
        terms = [term.label for term in runner.losses] if len(runner.losses) > 1 else []
        known |= dict.fromkeys(["loss", *terms])
        for monitor in self.monitors:
            close = get_close_matches(monitor.metric, known, n=1, cutoff=_LIKE_A_TYPO)
            if monitor.loader in metrics or monitor.metric in known or not close:
                continue
            message = (
                f"monitor {monitor.name!r}: neither validation nor the loss has such a metric; did you mean "
                f"'{monitor.loader}/{close[0]}'? They have {listing(known)}."
            )
            if not _may_add_metrics(runner):
                raise UsageError(
                    f"{message} So it is after --sanity-batches {self.batches}; with 0 the first epoch decides."
                )
            if runner.engine.is_main_process:
                _log.warning("%s Unless training alone has it, the run will end after its first epoch.", message)


def _may_add_metrics(run: Any) -> bool:
    """Whether code of the user's may have metrics in training that validation has not."""
    parts = (run, *map(inside, run.callbacks.values()))
    return not all(type(part).__module__.startswith(("assay.callbacks.", "assay.runner.")) for part in parts)


def _validate(run: Any, loaders: Mapping[str, DataLoader[Any]], callbacks: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of loaders by name, after a pass over them that leaves no trace in the run."""
    shards: dict[str, DataLoader[Any]] = {}
    with _without_trace(run, callbacks.values()), _naming_itself():
        run.is_sanity_check = True
        run.callbacks = _TakingPart(callbacks, run.callbacks)
        run.loggers = {name: SilentLogger(logger) for name, logger in run.loggers.items()}
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
        place = "the validation before the first epoch, which --sanity-batches 0 leaves out"
        if explain(error) is None:
            error.add_note(f"in {place}")
        else:
            note_place(error, place)  # before the run notes its own, which is its start
        raise


@contextmanager
def _without_trace(run: Any, callbacks: Iterable[Any]) -> Iterator[None]:
    """Restore the attributes of the run, the models with their hooks and buffers, and the random numbers."""
    attributes, modules = dict(vars(run)), _all_modules(run, callbacks)
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


def _all_modules(run: Any, callbacks: Iterable[Any]) -> list[nn.Module]:
    averages = [] if run.ema_ is None else run.ema_.models.values()
    known = [id(part) for part in _parts_of_run(run)]
    shared = [part for one in callbacks for part in parts_to_share(one, known) if isinstance(part, nn.Module)]
    return list(dict.fromkeys(part for module in (*modules_of(run), *averages, *shared) for part in module.modules()))


def _copies(run: Any, itself: dl.Callback) -> tuple[dict[str, Any], dict[str, str]]:
    """Return copies of the callbacks that take part, and by the class of each other one why it cannot be copied."""
    shared, copies, uncopied = _parts_of_run(run), {}, {}
    for name, callback in run.callbacks.items():
        if callback is itself or isinstance(inside(callback), _LEFT_OUT):
            continue
        try:
            copies[name] = copy_callback(callback, shared)
        except Exception as error:  # noqa: BLE001 - the user's own may hold anything, such as an open file
            uncopied[type(inside(callback)).__name__] = " ".join(str(error).split())
    return copies, uncopied


def _parts_of_run(run: Any) -> list[Any]:
    parts = (run.model, run.criterion, run.optimizer, run.scheduler, run.loaders, run.loggers, dict(run.get_loaders()))
    return [run, run.engine, *(one for part in parts for one in by_name(part).values())]


class _TakingPart(dict[str, Any]):
    """The callbacks that take part. One that does not is found by its name all the same, where another asks for it."""

    def __init__(self, copies: Mapping[str, Any], all_of_them: Mapping[str, Any]):
        super().__init__(copies)
        self.all_of_them = all_of_them

    def __missing__(self, name: str) -> Any:
        return self.all_of_them[name]


class SilentLogger:
    """Stands for a logger of any kind, and drops what it is given: whatever is asked of it is itself.

    But its plain values, such as a folder, are those of the logger, for callbacks that read them.
    """

    def __init__(self, logger: Any = None):
        values = vars(logger) if hasattr(logger, "__dict__") else {}
        self._values = {name: value for name, value in values.items() if isinstance(value, _PLAIN)}

    def get_writer(self, loader_key: str) -> Writer:
        """Return a writer that drops everything."""
        return Writer(None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.__dict__.get("_values", {}).get(name, self)

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        return self
