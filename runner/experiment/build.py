"""Build what an experiment describes, on this machine: engine, loaders, model and runner."""

import dataclasses
import inspect
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cv2
import torch
from accelerate import DistributedDataParallelKwargs
from torch import nn
from torch.utils.data import DataLoader

from assay.callbacks.errors import UsageError, listing
from assay.callbacks.findings.findings import Findings
from assay.callbacks.support.atomic_files import digest, save_text
from assay.callbacks.support.distributed import gather_objects
from assay.callbacks.support.tables import text_table
from assay.callbacks.support.unwrap import by_name

from ..data.seeding import seed_everything
from ..data.sharding import count_rounds
from ..engine.engine import Engine
from ..loop.batch_limits import limit_batches, overfit_batches
from ..loop.checking import Checking
from ..loop.checks.finite_weights import BrokenWeightsError, check_finite_weights
from ..loop.checks.known_monitors import KnownMonitors
from ..loop.dict_runner import DictRunner
from ..loop.state.settings import check_same_on_all
from ..processes.process_exit import notice_lost_machines
from ..recipe.criteria import train_too
from ..recipe.fine_tuning.fit_weights import fit_weights
from ..recipe.fine_tuning.freezing import Freezing, freeze
from ..recipe.fine_tuning.groups import HEADING, GroupTable, cells, describe_groups, has_named_groups
from ..recipe.fine_tuning.loaded import fresh_names, mark_all_but
from ..recipe.fine_tuning.pretrained import weights_follow
from ..recipe.monitor import Monitor
from ..saving.resume import decided_by_main_rank, join_after_restart
from ..saving.run_folder import read_fresh, write_fresh
from ..saving.weights_files import read_weights
from .base import Experiment
from .default_callbacks import callbacks_of_run, make_findings
from .field_names import flag_of
from .fields import FineTuning
from .model_options import prepare_model


def prepare_machine(experiment: Experiment) -> Engine:
    """Set threads, seeds and determinism for the process, and return the engine."""
    if experiment.threads is not None:
        torch.set_num_threads(experiment.threads)
        cv2.setNumThreads(experiment.threads)
    if experiment.deterministic:
        # cuBLAS reads it when it is first used, and torch refuses matrix products without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=experiment.find_unused_parameters)]
    # Before the engine, in which accelerate would join the process group itself.
    join_after_restart(on_cpu=experiment.device == "cpu" or not torch.cuda.is_available())
    engine = Engine(experiment.device, experiment.precision, kwargs_handlers=handlers)
    notice_lost_machines()
    seed_everything(experiment.seed)
    return engine


def get_loaders(experiment: Experiment, engine: Engine) -> dict[str, DataLoader[Any]]:
    """Return the loaders of an experiment, cut down to the batches that it is limited to."""
    loaders, ranks = experiment.get_loaders(), int(engine.num_processes)
    _check_marks(experiment, ranks)
    few, same = experiment.limit_batches, experiment.overfit_batches
    if engine.is_main_process and few is not None:
        print(f"dry run: at most {few} batches of each loader (--limit-batches)")
    if engine.is_main_process and same is not None:
        print(f"training and validating on the same {same} batches, drawn by the seed and not augmented")
    if same is not None:
        return overfit_batches(loaders, same, ranks, experiment.seed)
    return loaders if few is None else limit_batches(loaders, few, ranks)


def _check_marks(experiment: Experiment, ranks: int) -> None:
    given = [name for name in ("exclude", "relabel") if getattr(experiment, name) is not None]
    if given and not experiment.sample_marks.lines:
        raise UsageError(
            f"{flag_of(given[0])} has no use with this experiment's own get_loaders: leave it out, or let get_loaders "
            "pass its items through self.marked({'train': ..., 'valid': ...})."
        )
    if given and ranks > 1:
        check_same_on_all(experiment.sample_marks.checksums())


def get_model(experiment: Experiment, engine: Engine) -> Any:
    """Return the model of an experiment, or several by name, with its options applied; weights are to follow."""
    with weights_follow():
        return _prepared(experiment, engine, experiment.get_model())


def _prepared(experiment: Experiment, engine: Engine, model: Any) -> Any:
    return prepare_model(
        model,
        engine.device,
        int(engine.num_processes),
        channels_last=experiment.channels_last,
        sync_batchnorm=experiment.sync_batchnorm,
        compile_model=experiment.compile,
    )


def _start_model(
    experiment: Experiment, engine: Engine, folder: Path | None, checkpoint: Path | None
) -> tuple[Any, Freezing]:
    """Return the model as training begins with it, loaded and frozen, and what keeps it frozen."""
    with nullcontext() if checkpoint is None else weights_follow():
        model = experiment.get_model()
    models = by_name(model)
    if checkpoint is not None and folder is not None:
        mark_all_but(models, decided_by_main_rank(lambda: read_fresh(folder)))
    elif isinstance(experiment.weights, str):  # an experiment may have a field of its own of that name
        _load_weights(models, experiment.weights, engine)
    if folder is not None and checkpoint is None and experiment.lr_head is not None and engine.is_main_process:
        write_fresh(folder, fresh_names(models))
    frozen = freeze(models, experiment.freeze) if isinstance(experiment.freeze, str) else []
    return _prepared(experiment, engine, model), Freezing(frozen, experiment.unfreeze_epoch)


def _load_weights(models: Mapping[str, nn.Module], path: str, engine: Engine) -> None:
    """Load what fits of a file or a run into models, on all ranks alike, and print what does not."""
    found, error = None, None
    try:
        found = read_weights(path)
        fit = fit_weights(models, found.tensors, found.source)
        check_finite_weights(models, found.source)
    except (UsageError, BrokenWeightsError) as refused:
        error = UsageError(str(refused))
    # A file may be missing on one machine alone, whose ranks the others would wait for.
    if errors := [one for one in gather_objects(error) if one is not None]:
        raise errors[0]
    if engine.num_processes > 1 and found is not None:
        check_same_on_all({"the checksum of --weights": digest(found.path)})
    if engine.is_main_process:
        print("\n".join(fit.lines()), flush=True)


def _show_groups(experiment: Experiment, engine: Engine, optimizer: Any) -> dict[str, Any]:
    """Print the groups of parameters of a fine-tuned model, and return the callback that shows them in TensorBoard."""
    if all(getattr(experiment, field.name) == field.default for field in dataclasses.fields(FineTuning)):
        return {}
    given = [name for name in ("lr_decay", "lr_head") if getattr(experiment, name) is not None]
    if given and not has_named_groups(optimizer):
        raise UsageError(
            f"{flag_of(given[0])} has no use with this experiment's own get_optimizer: leave it out, or let "
            "get_optimizer give the optimizer self.parameter_groups(model)."
        )
    table = cells(describe_groups(optimizer), experiment.unfreeze_epoch)
    if engine.is_main_process:
        print(text_table(HEADING, table), flush=True)
    return {"parameter_groups": GroupTable(table)}


def run_experiment(
    experiment: Experiment,
    engine: Engine,
    monitors: list[Monitor],
    folder: Path,
    name: str,
    checkpoint: Path | None,
    reporters: Mapping[str, Any] = MappingProxyType({}),
    *,
    page: bool = True,
) -> DictRunner:
    """Build everything that an experiment describes, and train it.

    Args:
        experiment: what to train.
        engine: from ``prepare_machine``.
        monitors: what its best epochs are chosen by.
        folder: the run folder.
        name: of the experiment, by which a run finds it again.
        checkpoint: where to go on from; None: from the start.
        reporters: further callbacks, of what has started the run.
        page: whether the run makes ``report.html`` when it ends.

    Returns:
        The runner, after training.
    """
    experiment.run_folder = folder
    loaders = _checked_loaders(experiment, engine, monitors)
    if engine.is_main_process:
        _note_data(experiment, folder)
    parts, freezing = _build_parts(experiment, engine, loaders, folder, checkpoint)
    callbacks = {**callbacks_of_run(experiment, monitors, folder, name, page=page), **reporters}
    if checkpoint is None:
        callbacks |= _show_groups(experiment, engine, parts["optimizer"])
    if freezing.names:
        callbacks["freezing"] = freezing
    runner = _make_runner(DictRunner, experiment, monitors)
    runner.train(
        **parts,
        callbacks=callbacks,
        loggers=experiment.get_loggers() if engine.is_main_process else None,
        hparams=dataclasses.asdict(experiment) | experiment.sample_marks.counts,
        logdir=str(folder),
        resume=None if checkpoint is None else str(checkpoint),
    )
    return runner


def check_experiment(experiment: Experiment, engine: Engine, monitors: list[Monitor]) -> Findings:
    """Build everything that an experiment describes, look at it, and return what was found; nothing is trained.

    Args:
        experiment: what to look at.
        engine: from ``prepare_machine``.
        monitors: what its best epochs would be chosen by.
    """
    loaders = _checked_loaders(experiment, engine, monitors)
    parts, freezing = _build_parts(experiment, engine, loaders, None, None)
    findings = make_findings(experiment, stop=False)
    brought = {str(i): callback for i, callback in enumerate(experiment.get_callbacks())}
    others = {"monitors": KnownMonitors(monitors), **({"freezing": freezing} if freezing.names else {})}
    runner = _make_runner(Checking, experiment, monitors)
    runner.train(**parts, callbacks={"findings": findings, **brought, **others})
    return findings


def _checked_loaders(experiment: Experiment, engine: Engine, monitors: list[Monitor]) -> dict[str, DataLoader[Any]]:
    loaders = get_loaders(experiment, engine)
    _check_monitors(monitors, loaders)
    return loaders


def _build_parts(
    experiment: Experiment,
    engine: Engine,
    loaders: dict[str, DataLoader[Any]],
    folder: Path | None,
    checkpoint: Path | None,
) -> tuple[dict[str, Any], Freezing]:
    """Return what the runner's ``train`` is given to train, by the names of its arguments, and what keeps it frozen."""
    # Again: the weights must not depend on how much chance the data sets have used.
    seed_everything(experiment.seed)
    model, freezing = _start_model(experiment, engine, folder, checkpoint)
    criterion = experiment.get_criterion()
    optimizer = experiment.get_optimizer(model)
    train_too(optimizer, criterion)
    if experiment.lr_batch_size is not None and engine.is_main_process:
        scaled = f"--lr {experiment.lr:g} for --lr-batch-size {experiment.lr_batch_size}"
        print(f"learning rate: {experiment.scaled_lr:g}, as {scaled} is scaled to the samples of a step")
    scheduler = experiment.get_scheduler(optimizer, _steps_per_epoch(experiment, loaders, engine))
    parts = {
        "engine": engine, "loaders": loaders, "model": model, "criterion": criterion, "optimizer": optimizer,
        "scheduler": scheduler, "seed": experiment.seed, "num_epochs": experiment.epochs,
    }  # fmt: skip
    return parts, freezing


def _check_monitors(monitors: Iterable[Monitor], loaders: dict[str, DataLoader[Any]]) -> None:
    # Before training: a misspelt loader would show only at the end of the first epoch.
    for monitor in monitors:
        if monitor.loader not in loaders:
            raise UsageError(f"monitor {monitor.name!r}: there is no such loader; there is {listing(loaders)}.")


def _note_data(experiment: Experiment, folder: Path) -> None:
    """Print what the data is, and write down what a run that goes on has to know of it."""
    for line in [*experiment.describe_data(), *experiment.sample_marks.lines]:
        print(_as_text(line))
    for name, text in (experiment.files_of_run() | experiment.sample_marks.files()).items():
        # A run that goes on keeps what it was started with.
        if not (folder / name).exists():
            save_text(folder / name, _as_text(text))


def _as_text(text: str) -> str:
    """Return text that can be written: the name of a file need not be of UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def _make_runner(kind: type[DictRunner], experiment: Experiment, monitors: list[Monitor]) -> DictRunner:
    # By name: a field that is an argument of the runner as well reaches it without being listed here.
    fields = {field.name for field in dataclasses.fields(Experiment)}
    shared = {name: getattr(experiment, name) for name in fields & inspect.signature(DictRunner).parameters.keys()}
    return kind(
        input_key=experiment.input_key,
        losses=experiment.get_losses(),
        scheduler_step=experiment.scheduler_step,
        scheduler_metric=monitors[0].name,
        **shared,
    )


def _steps_per_epoch(experiment: Experiment, loaders: dict[str, DataLoader[Any]], engine: Engine) -> int:
    # Rounded up for each loader by itself: what is left at the end of one makes a smaller step of its own.
    trained = [loader for key, loader in loaders.items() if key.startswith("train")]
    rounds = [count_rounds(loader, int(engine.num_processes)) for loader in trained]
    return max(1, sum(math.ceil(count / experiment.accumulate_steps) for count in rounds))
