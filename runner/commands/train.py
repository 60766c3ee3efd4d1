"""``assay train``: open a run folder, train an experiment in it, and print what came of it."""

import dataclasses
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from assay.callbacks.errors import UsageError

from ..engine.engine import Engine
from ..experiment.base import Experiment
from ..experiment.build import prepare_machine, run_experiment
from ..experiment.catalog import label
from ..experiment.experiment_settings import check_fields, experiment_settings
from ..experiment.ignored_fields import check_ignored
from ..loop.dict_runner import DictRunner
from ..loop.epoch_table import Metrics, importance, terminal_width
from ..loop.fault_messages import note_checkpoint
from ..loop.state.settings import check_same_on_all
from ..processes.early_stop import StoppedEarly, held_signals, raise_if_signalled
from ..processes.exit_codes import StoppedError
from ..processes.shell import command
from ..recipe.monitor import Monitor, parse_monitors
from ..recipe.overfit_verdict import classes_in, overfit_verdict
from ..saving.resume import decided_by_main_rank, moment_of, newest_checkpoint, restarted_run
from ..saving.run_folder import RunFolder, has_checkpoint, read_config
from ..saving.run_lock import locked
from .how_to_look import how_to_look
from .tuning.reporter import ReportToSearch

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class _Opened(NamedTuple):
    """A run folder; of a run to go on with also its config as it was, its checkpoint, and when that was saved."""

    folder: RunFolder
    previous: dict[str, Any] | None = None
    checkpoint: Path | None = None
    moment: str = ""


def train(
    experiment: Experiment,
    *,
    name: str,
    run_dir: str | os.PathLike[str] | None = None,
    resume: str | os.PathLike[str] | None = None,
    search: "Connection[tuple[int, float], bool] | None" = None,
) -> Path:
    """Train an experiment in a run folder of its own, and print what came of it.

    Args:
        experiment: what to train.
        name: what the run belongs to: ``runs/NAME/`` holds it, and ``--resume`` finds the experiment by it.
        run_dir: the run folder; by default a new one with the time in its name.
        resume: a run folder to go on with instead; where ``torchrun`` restarts its processes, the one of before.
        search: of a trial, the connection to its search, which prints what came of it in the place of this.

    Returns:
        The run folder.

    Raises:
        UsageError: wrong use; a run folder that was made is removed again, unless it holds a checkpoint. Another
            process is at work in the folder.
        StoppedError: a signal ended the run (see ``StopOnSignal``).
    """
    monitors = parse_monitors(experiment.monitor)
    if resume is None:
        check_ignored(experiment, label(name))
    engine = prepare_machine(experiment)
    # Before a folder is made, so that ranks that were started unlike leave none behind.
    check_same_on_all(experiment_settings(label(name), experiment))
    with ExitStack() as held:
        with held_signals():  # of a folder that is made it has to be known that it is to be removed
            opened = decided_by_main_rank(lambda: _open_folder(run_dir, label(name), resume, held, experiment))
        folder = opened.folder.path
        with _undone_where_refused(opened, engine, name):
            raise_if_signalled()
            if engine.is_main_process:
                _announce(opened, experiment, engine, name)
            with torch.autograd.set_detect_anomaly(experiment.detect_anomaly):
                reporters = {} if search is None else {"search": ReportToSearch(monitors[0], search)}
                # A page for each trial of a search would take longer than some trials.
                runner = run_experiment(
                    experiment, engine, monitors, folder, name, opened.checkpoint, reporters, page=search is None
                )
        if engine.is_main_process and search is None:
            if experiment.overfit_batches is not None:
                print(_overfit_verdict(runner, monitors[0], experiment.overfit_batches))
            print(summary(runner, monitors, folder))
    return folder


def _announce(opened: _Opened, experiment: Experiment, engine: Engine, name: str) -> None:
    """Write down what is trained and where, and print the folder."""
    folder = opened.folder
    folder.write_config(dataclasses.asdict(experiment))
    if opened.previous is None:
        # A resumed run keeps the description of its first start.
        folder.write_environment(name, engine.device, generated=experiment.generated)
    print(f"run folder: {folder.path}")
    if opened.checkpoint is not None:
        print(f"going on from {opened.checkpoint.name}, of {opened.moment}")
    if experiment.generated:
        print(f"no --data-dir: generated data is used, in {experiment.generated_folder}")


@contextmanager
def _undone_where_refused(opened: _Opened, engine: Engine, name: str) -> Iterator[None]:
    """After wrong use or an early signal, leave the folder as it was found; add to other errors what is needed."""
    folder = opened.folder.path
    try:
        yield
    except UsageError:
        if engine.is_main_process:
            _undo(opened)
        raise
    except StoppedEarly as stopped:
        if engine.is_main_process:
            _undo(opened)
        raise _stopped(stopped, folder, name) from stopped
    except OSError as error:
        # A full disk, above all: the message then names where the run can go on from.
        note_checkpoint(error, has_checkpoint(folder))
        raise


def _overfit_verdict(runner: DictRunner, monitor: Monitor, count: int) -> str:
    trained = next(loader for key, loader in runner.get_loaders().items() if key.startswith("train"))
    return overfit_verdict(runner.history, monitor, count, classes_in(trained, runner.callbacks.values()))


def summary(runner: DictRunner, monitors: list[Monitor], folder: Path) -> str:
    """Return the last lines of a run: best epoch with its metrics, folder, and how to look at it."""
    best = monitors[0].best(runner.history)
    lines = []
    if runner.epoch_step < runner.num_epochs:
        lines.append(_early_end(runner, monitors[0]))
    if best is None:
        lines.append(f"no best epoch: {monitors[0].name} was NaN or infinite in every epoch: try a smaller --lr")
    else:
        metrics = runner.callbacks["progress"].shown(runner.history[best])
        lines.append(_best_epoch(best, metrics, [monitor.name for monitor in monitors]))
    if "bad_images" in runner.callbacks:
        lines += runner.callbacks["bad_images"].summary()
    lines.append(f"run folder: {folder}")
    return "\n".join([*lines, *how_to_look(folder)])


def _early_end(runner: DictRunner, monitor: Monitor) -> str:
    line = f"stopped early after epoch {runner.epoch_step}: {monitor.name} no longer got better"
    stopper = runner.callbacks.get("early_stopping")
    return line if stopper is None else f"{line} (--patience {stopper.patience})"


def _best_epoch(epoch: int, metrics: Metrics, compared: list[str]) -> str:
    """Return the line about the best epoch, with as many of its metrics as fit, the most important ones."""
    columns = [(loader, name) for loader, of in metrics.items() for name in of]
    # What it is the best by, before all.
    kept = sorted(columns, key=lambda column: ("/".join(column) != compared[0], importance(column, compared)))

    def line() -> str:
        values = [f"{key}/{name} {metrics[key][name]:.4f}" for key, name in columns if (key, name) in kept]
        return f"best epoch: {epoch} by {compared[0]} ({', '.join(values)})"

    while len(kept) > 1 and len(line()) > terminal_width(sys.stdout):
        kept.pop()
    return line()


def _open_folder(
    run_dir: str | os.PathLike[str] | None,
    runs_name: str,
    resume: str | os.PathLike[str] | None,
    held: ExitStack,
    experiment: Experiment,
) -> _Opened:
    """Return the run folder, locked until ``held`` is closed."""
    if resume is None:
        # After a restart by torchrun the arguments are those of the first start: the run goes on all the same.
        path = restarted_run(run_dir, Path("runs") / runs_name)
        if path is not None and has_checkpoint(path):
            resume = path
        elif path is not None:
            RunFolder(path).discard()
            run_dir = path
    if resume is not None:
        return _reopen_folder(Path(resume), held, experiment)
    folder = RunFolder.create(run_dir, runs_name)
    held.enter_context(locked(folder.path))
    return _Opened(folder)


def _reopen_folder(run: Path, held: ExitStack, experiment: Experiment) -> _Opened:
    previous = read_config(run)
    # Before a checkpoint is chosen: a process that still writes there could replace it.
    held.enter_context(locked(run))
    fields, kind = dataclasses.asdict(experiment), type(experiment)
    moments: list[str] = []

    def check(state: dict[str, Any]) -> None:
        check_fields(str(run), state.get("config") or {}, fields, kind)
        moments.append(moment_of(state))

    checkpoint = newest_checkpoint(run, check)
    return _Opened(RunFolder.reopen(run), previous, checkpoint, *moments)


def _stopped(stopped: StoppedEarly, folder: Path, name: str) -> StoppedEarly | StoppedError:
    """Return how to go on from the last checkpoint; where there is none, the signal itself: all begins anew."""
    if not has_checkpoint(folder):
        return stopped
    again = command("assay", "train", name, "--resume", folder)
    return StoppedError(
        f"stopped by {stopped.signal_name} between its steps; continue it with: {again}", stopped.number
    )


def _undo(opened: _Opened) -> None:
    """Put a resumed run's config back, and remove a new run that has no checkpoint yet."""
    if opened.previous is not None:
        opened.folder.write_config(opened.previous)
    elif not has_checkpoint(opened.folder.path):
        opened.folder.discard()
