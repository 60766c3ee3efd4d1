"""A run that is used after its training: its experiment as it was, and its checkpoints."""

from pathlib import Path
from typing import Any

from assay.callbacks.errors import UsageError

from .catalog import find_experiment
from .checkpoint_files import find_checkpoint
from .experiment import Experiment
from .parser import parse_experiment
from .run_folder import CONFIG, read_config, read_environment


def reopen(run: Path, **changed: Any) -> Experiment:
    """Return the experiment of a run, with its fields.

    A field ``pretrained`` is off: the model's weights are those of a checkpoint, and need not be downloaded first.

    Args:
        run: the run folder.
        changed: fields that are to be others than the run's; None leaves a field as it is.

    Raises:
        UsageError: it is no run folder, its experiment is gone, or has other fields by now.
    """
    if not run.is_dir():
        raise UsageError(f"{run} is no run folder: there is no such folder.")
    read_config(run)
    name = read_environment(run)["experiment"]
    flags = [f"--{field.replace('_', '-')}={value}" for field, value in changed.items() if value is not None]
    experiment, _ = parse_experiment(find_experiment(name), name, ["--config", str(run / CONFIG), *flags])
    if getattr(experiment, "pretrained", False) is True:
        experiment.pretrained = False  # type: ignore[attr-defined]
    return experiment


def checkpoint_path(run: Path, which: str) -> Path:
    """Return the file of a checkpoint: ``best``, ``last``, a file of the run's, or any path to one.

    Raises:
        UsageError: there is no such file; the message says what there is.
    """
    if which not in ("best", "last") and Path(which).is_file():
        return Path(which)
    return find_checkpoint(run, which)
