"""From an experiment to a run: folder, training, and the words at its end."""

import dataclasses
import inspect
import math
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import torch
from accelerate import DistributedDataParallelKwargs
from torch.utils.data import DataLoader

from assay.callbacks.base.diagnostic import Diagnostic
from assay.callbacks.drawings.canvas.picture_style import PictureStyle
from assay.callbacks.errors import UsageError, listing
from assay.callbacks.non_finite.guard import NonFiniteGuard
from assay.callbacks.overhead.budget import OverheadBudget
from assay.callbacks.training.hparams import HParams

from ..data.bad_images import BadImages
from ..data.seeding import seed_everything
from ..data.sharding import count_rounds
from ..engine.engine import Engine
from ..experiment.base import Experiment
from ..experiment.catalog import label
from ..experiment.experiment_settings import check_fields, experiment_settings
from ..experiment.model_options import prepare_model
from ..loop.batch_limits import limit_batches, overfit_batches
from ..loop.dict_runner import DictRunner
from ..loop.fault_messages import note_checkpoint
from ..loop.progress import Progress
from ..loop.state.settings import check_same_on_all
from ..loop.stop_on_signal import StopOnSignal
from ..processes.early_stop import StoppedEarly, held_signals, raise_if_signalled
from ..processes.exit_codes import StoppedError
from ..processes.process_exit import notice_lost_machines
from ..processes.shell import command
from ..recipe.criteria import train_too
from ..recipe.early_stopping import EarlyStopping
from ..recipe.monitor import KnownMonitors, Monitor, parse_monitors
from ..recipe.overfit_verdict import classes_in, overfit_verdict
from ..saving.checkpoints import Checkpoints
from ..saving.resume import decided_by_main_rank, join_after_restart, newest_checkpoint, restarted_run
from ..saving.run_folder import RunFolder, has_checkpoint, read_config
from ..saving.run_lock import locked


def train(
    experiment: Experiment,
    *,
    name: str,
    run_dir: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> Path:
    """Train an experiment in a run folder of its own, and print what came of it.

    Args:
        experiment: what to train.
        name: what the run belongs to: ``runs/NAME/`` holds it, and ``--resume`` finds the experiment by it.
        run_dir: the run folder; by default a new one with the time in its name.
        resume: a run folder to go on with instead; where ``torchrun`` restarts its processes, the one of before.

    Returns:
        The run folder.

    Raises:
        UsageError: wrong use; a run folder that was made is removed again, unless it holds a checkpoint. Another
            process is at work in the folder.
        StoppedError: a signal ended the run (see ``StopOnSignal``).
    """
    monitors = parse_monitors(experiment.monitor)
    engine = prepare_machine(experiment)
    check_same_on_all(experiment_settings(label(name), experiment))
    with ExitStack() as held:
        with held_signals():  # of a folder that is made it has to be known that it is to be removed
            opened = decided_by_main_rank(lambda: _open_folder(run_dir, label(name), resume, held, experiment))
        return _train_in(opened, experiment, engine, monitors, name)


def _train_in(
    opened: tuple[RunFolder, dict[str, Any] | None, Path | None],
    experiment: Experiment,
    engine: Engine,
    monitors: list[Monitor],
    name: str,
) -> Path:
    folder, previous, checkpoint = opened
    try:
        raise_if_signalled()
        if engine.is_main_process:
            folder.write_config(dataclasses.asdict(experiment))
            if previous is None:
                folder.write_environment(name, engine.device, generated=experiment.generated)
            print(f"run folder: {folder.path}")
            if experiment.generated:
                print(f"no --data-dir: generated data is used, in {experiment.generated_folder}")
        with torch.autograd.set_detect_anomaly(experiment.detect_anomaly):
            runner = _run(experiment, engine, monitors, folder.path, name, checkpoint)
    except UsageError:
        if engine.is_main_process:
            _undo(folder, previous)
        raise
    except StoppedEarly as stopped:
        if engine.is_main_process:
            _undo(folder, previous)
        raise _stopped(stopped, folder.path, name) from stopped
    except OSError as error:
        note_checkpoint(error, has_checkpoint(folder.path))
        raise
    if engine.is_main_process:
        if experiment.overfit_batches is not None:
            print(_overfit_verdict(runner, monitors[0], experiment.overfit_batches))
        print(summary(runner, monitors, folder.path))
    return folder.path


def _overfit_verdict(runner: DictRunner, monitor: Monitor, count: int) -> str:
    trained = next(loader for key, loader in runner.get_loaders().items() if key.startswith("train"))
    return overfit_verdict(runner.history, monitor, count, classes_in(trained, runner.callbacks.values()))


def prepare_machine(experiment: Experiment) -> Engine:
    """Set threads, seeds and determinism for the process, and return the engine."""
    if experiment.threads is not None:
        torch.set_num_threads(experiment.threads)
        cv2.setNumThreads(experiment.threads)
    if experiment.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=experiment.find_unused_parameters)]
    join_after_restart(on_cpu=experiment.device == "cpu" or not torch.cuda.is_available())
    engine = Engine(experiment.device, experiment.precision, kwargs_handlers=handlers)
    notice_lost_machines()
    seed_everything(experiment.seed)
    return engine


def summary(runner: DictRunner, monitors: list[Monitor], folder: Path) -> str:
    """Return the last lines of a run: best epoch with its metrics, folder, and how to look at it."""
    best = monitors[0].best(runner.history)
    lines = []
    if runner.epoch_step < runner.num_epochs:
        lines.append(f"stopped early after epoch {runner.epoch_step}: {monitors[0].name} no longer got better")
    if best is None:
        lines.append(f"no best epoch: {monitors[0].name} was never finite")
    else:
        metrics = runner.callbacks["progress"].shown(runner.history[best])
        values = [f"{key}/{name} {value:.4f}" for key, of in metrics.items() for name, value in of.items()]
        lines.append(f"best epoch: {best} by {monitors[0].name} ({', '.join(values)})")
    if "bad_images" in runner.callbacks:
        lines += runner.callbacks["bad_images"].summary()
    lines.append(f"run folder: {folder}")
    lines.append(f"look at it: {_tensorboard(folder)}")
    return "\n".join(lines)


def _open_folder(
    run_dir: str | os.PathLike[str] | None,
    runs_name: str,
    resume: str | os.PathLike[str] | None,
    held: ExitStack,
    experiment: Experiment,
) -> tuple[RunFolder, dict[str, Any] | None, Path | None]:
    """Return the run folder, held for this process, and of a run to go on with its config and its checkpoint."""
    if resume is None:
        path = restarted_run(run_dir, Path("runs") / runs_name)
        if path is not None and has_checkpoint(path):
            resume = path
        elif path is not None:
            RunFolder(path).discard()
            run_dir = path
    if resume is None:
        folder = RunFolder.create(run_dir, runs_name)
        held.enter_context(locked(folder.path))
        return folder, None, None
    previous = read_config(Path(resume))
    held.enter_context(locked(Path(resume)))
    run, fields = str(resume), dataclasses.asdict(experiment)
    checkpoint = newest_checkpoint(
        resume, lambda state: check_fields(run, state.get("config") or {}, fields, type(experiment))
    )
    return RunFolder.reopen(Path(resume)), previous, checkpoint


def _stopped(stopped: StoppedEarly, folder: Path, name: str) -> StoppedEarly | StoppedError:
    """Return how to go on from the last checkpoint; where there is none, the signal itself: all begins anew."""
    if not has_checkpoint(folder):
        return stopped
    again = command("assay", "train", name, "--resume", folder)
    return StoppedError(f"stopped by {stopped.signal_name} between its steps; it goes on by: {again}", stopped.number)


def _undo(folder: RunFolder, previous: dict[str, Any] | None) -> None:
    """After wrong use, put a resumed run's config back, and remove a new run that has no checkpoint yet."""
    if previous is not None:
        folder.write_config(previous)
    elif not has_checkpoint(folder.path):
        folder.discard()


def _tensorboard(folder: Path) -> str:
    """Return the command as the user can type it: the one beside this Python, where PATH has none."""
    beside = Path(sys.executable).with_name("tensorboard")
    program = str(beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside)
    if shutil.which("tensorboard") is not None or not beside.exists():
        program = "tensorboard"
    return command(program, "--logdir", folder, "--samples_per_plugin", "images=200")


def _run(
    experiment: Experiment,
    engine: Engine,
    monitors: list[Monitor],
    folder: Path,
    name: str,
    checkpoint: Path | None,
) -> DictRunner:
    loaders = get_loaders(experiment, engine)
    for monitor in monitors:
        if monitor.loader not in loaders:
            raise UsageError(f"monitor {monitor.name!r}: there is no such loader; there is {listing(loaders)}.")
    seed_everything(experiment.seed)
    model = get_model(experiment, engine)
    criterion = experiment.get_criterion()
    optimizer = experiment.get_optimizer(model)
    train_too(optimizer, criterion)
    if experiment.lr_batch_size is not None and engine.is_main_process:
        print(f"learning rate: {experiment.scaled_lr:g}, from {experiment.lr:g} for {experiment.lr_batch_size} samples")
    fields = dataclasses.asdict(experiment)
    runner = DictRunner(
        input_key=experiment.input_key,
        losses=experiment.get_losses(),
        scheduler_step=experiment.scheduler_step,
        scheduler_metric=monitors[0].name,
        **_options_of_same_name(experiment),
    )
    runner.train(
        engine=engine,
        loaders=loaders,
        model=model,
        criterion=criterion,
        optimizer=optimizer,
        scheduler=experiment.get_scheduler(optimizer, _steps_per_epoch(experiment, loaders, engine)),
        callbacks=_get_callbacks(experiment, monitors, folder, name),
        loggers=experiment.get_loggers() if engine.is_main_process else None,
        seed=experiment.seed,
        hparams=fields,
        num_epochs=experiment.epochs,
        logdir=str(folder),
        resume=None if checkpoint is None else str(checkpoint),
    )
    return runner


def _options_of_same_name(experiment: Experiment) -> dict[str, Any]:
    # By name: a field that is an argument of the runner as well reaches it without being listed here.
    names = {field.name for field in dataclasses.fields(Experiment)} & inspect.signature(DictRunner).parameters.keys()
    return {name: getattr(experiment, name) for name in names}


def _get_callbacks(experiment: Experiment, monitors: list[Monitor], folder: Path, name: str) -> dict[str, Any]:
    """Return the callbacks of an experiment, and those that every run has, where it does not bring them itself."""
    callbacks: dict[str, Any] = {str(i): callback for i, callback in enumerate(experiment.get_callbacks())}
    brought = list(callbacks.values())
    callbacks["checkpoints"] = Checkpoints(
        folder / "checkpoints",
        monitors,
        top_k=experiment.top_k,
        extra={"experiment": name, "config": dataclasses.asdict(experiment)},
        on_save_error=experiment.on_save_error,
        every_n_steps=experiment.save_every_steps,
        every_minutes=experiment.save_every_minutes,
    )
    callbacks["stop_on_signal"] = StopOnSignal(folder, name, callbacks["checkpoints"])
    callbacks["monitors"] = KnownMonitors(monitors)
    if experiment.on_bad_image == "skip":
        callbacks["bad_images"] = BadImages(folder / "bad_images.txt")
    callbacks["progress"] = Progress(metrics=[monitor.name for monitor in monitors])
    if experiment.non_finite != "off" and not _holds(brought, NonFiniteGuard):
        # The guard draws the broken batch as the experiment's own diagnostics draw theirs.
        styles = (one.style for one in callbacks.values() if isinstance(one, Diagnostic) and one.style is not None)
        style = next(styles, PictureStyle())
        callbacks["non_finite"] = NonFiniteGuard(
            experiment.non_finite, class_names=style.class_names, mean=style.mean, std=style.std
        )
    if not _holds(brought, HParams):
        callbacks["hparams"] = HParams([it.name for it in monitors], [it.minimize for it in monitors])
    if experiment.max_overhead is not None and experiment.diagnostics != "off" and not _holds(brought, OverheadBudget):
        callbacks["overhead"] = OverheadBudget(experiment.max_overhead)
    if experiment.patience is not None:
        callbacks["early_stopping"] = EarlyStopping(monitors[0], experiment.patience)
    return callbacks


def _holds(callbacks: Iterable[Any], kind: type) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)


def get_model(experiment: Experiment, engine: Engine) -> Any:
    """Return the model of an experiment, or several by name, with its options applied."""
    return prepare_model(
        experiment.get_model(),
        engine.device,
        int(engine.num_processes),
        channels_last=experiment.channels_last,
        sync_batchnorm=experiment.sync_batchnorm,
        compile_model=experiment.compile,
    )


def get_loaders(experiment: Experiment, engine: Engine) -> dict[str, DataLoader[Any]]:
    """Return the loaders of an experiment, cut down to the batches that it is limited to."""
    loaders, ranks = experiment.get_loaders(), int(engine.num_processes)
    few, same = experiment.limit_batches, experiment.overfit_batches
    if engine.is_main_process and few is not None:
        print(f"dry run: at most {few} batches of each loader")
    if engine.is_main_process and same is not None:
        print(f"training and validating on the same {same} batches, drawn by the seed and not augmented")
    if same is not None:
        return overfit_batches(loaders, same, ranks, experiment.seed)
    return loaders if few is None else limit_batches(loaders, few, ranks)


def _steps_per_epoch(experiment: Experiment, loaders: dict[str, DataLoader[Any]], engine: Engine) -> int:
    trained = [loader for key, loader in loaders.items() if key.startswith("train")]
    rounds = [count_rounds(loader, int(engine.num_processes)) for loader in trained]
    return max(1, sum(math.ceil(count / experiment.accumulate_steps) for count in rounds))
