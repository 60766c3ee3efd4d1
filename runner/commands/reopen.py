"""Reopen a finished run: recreate its experiment and find its checkpoints."""

from pathlib import Path
from typing import Any

from ..experiment.base import Experiment
from ..experiment.catalog import find_experiment
from ..saving.checkpoint_files import find_checkpoint
from ..saving.run_folder import CONFIG, check_run, read_environment
from .experiment_flags import parse_experiment


def reopen(run: Path, **changed: Any) -> Experiment:
    """Return the experiment of a run, with the fields that it was trained with.

    Args:
        run: the run folder.
        changed: fields to change; None leaves a field as it was.

    Raises:
        UsageError: it is not a run folder, or its experiment no longer exists or has other fields now.
    """
    check_run(run)
    name = read_environment(run)["experiment"]
    flags = [f"--{field.replace('_', '-')}={value}" for field, value in changed.items() if value is not None]
    experiment, _ = parse_experiment(find_experiment(name), name, ["--config", str(run / CONFIG), *flags])
    # The weights come from a checkpoint: nothing needs to be downloaded first.
    if getattr(experiment, "pretrained", False) is True:
        experiment.pretrained = False  # type: ignore[attr-defined]
    experiment.run_folder = run
    return experiment


def checkpoint_path(run: Path, which: str) -> Path:
    """Return the file of a checkpoint: ``best``, ``last``, a file of the run, or a path.

    Raises:
        UsageError: there is no such file; the message lists what there is.
    """
    if which not in ("best", "last") and Path(which).is_file():
        return Path(which)
    return find_checkpoint(run, which)
