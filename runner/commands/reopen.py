"""Reopen a finished run: recreate its experiment, find its checkpoints, and load its model."""

import os
from pathlib import Path
from typing import Any

from ..engine.engine import Engine
from ..experiment.base import Experiment
from ..experiment.catalog import find_experiment
from ..experiment.field_names import flag_of
from ..prediction.models import Models
from ..prediction.trained_model import TrainedModel
from ..prediction.tta import Views
from ..saving.checkpoint_files import find_checkpoint, load_checkpoint, validated_weights
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
    flags = [f"{flag_of(field)}={value}" for field, value in changed.items() if value is not None]
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


def load_model(
    run: str | os.PathLike[str], checkpoint: str = "best", *, device: str = "auto", data_dir: str | None = None
) -> TrainedModel:
    """Return the trained model of a run, with its class names, its transform and its task.

    Args:
        run: the run folder.
        checkpoint: ``best``, ``last``, or a file; as in ``assay evaluate``, its moving average counts, if there is one.
        device: where it is to run: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``.
        data_dir: where the data is now, for an experiment that takes its class names from there; None: where it was.

    Returns:
        The model in evaluation mode, with weights in fp32. ``load_model(run)("photo.jpg")`` is its prediction.

    Raises:
        UsageError: it is not a run folder, the checkpoint does not exist or does not fit, or the experiment does not
            say how to predict.
        BrokenWeightsError: the weights are not finite.
    """
    experiment = reopen(Path(run), data_dir=data_dir)
    path = checkpoint_path(Path(run), checkpoint)
    prediction, state = experiment.get_prediction(), load_checkpoint(path)
    models = Models(experiment, prediction, [validated_weights(state)], Engine(device, "fp32"), Views("none"))
    models.check_finite([f"checkpoint {path}"])
    return TrainedModel(experiment, prediction, state["epoch"], models)
