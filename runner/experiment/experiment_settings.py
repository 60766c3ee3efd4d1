"""Compare the fields of an experiment: between its processes, and with the checkpoint that it resumes from."""

import dataclasses
import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from assay.callbacks.errors import UsageError

from ..loop.state.settings import short_checksum
from .base import Experiment
from .field_names import flag_of
from .marks import Mark, marked

_log = logging.getLogger("assay")


def experiment_settings(name: str, experiment: Any) -> dict[str, Any]:
    """Return what the processes of an experiment must agree on: its name, its fields by their flags, and the code."""
    per_machine = marked(type(experiment), Mark.PER_MACHINE)
    fields = {key: value for key, value in dataclasses.asdict(experiment).items() if key not in per_machine}
    source = inspect.getsourcefile(type(experiment))
    return {
        "the experiment": name,
        **{flag_of(key): value for key, value in fields.items()},
        # Copies on several machines may differ: one is edited, and another not yet.
        "the checksum of its file": short_checksum(Path(source).read_bytes())
        if source and Path(source).is_file()
        else None,
        # Without what follows the plus sign, in which builds for CPU and CUDA differ.
        "the version of torch": torch.__version__.partition("+")[0],
    }


def check_fields(
    run: str, before: Mapping[str, Any], now: Mapping[str, Any], experiment: type[Experiment] = Experiment
) -> None:
    """Compare the fields that a checkpoint was made with and those of the run that goes on from it.

    Args:
        run: the run folder, for the message.
        before: the fields of the checkpoint.
        now: those of the run.
        experiment: the class, whose fields are marked.

    Raises:
        UsageError: one differs that decides about the course of the run; the message names it and both values.
    """
    changed = {name: (before[name], now[name]) for name in before.keys() & now.keys() if before[name] != now[name]}
    decides = _deciding_fields(experiment)
    resumable = marked(experiment, Mark.RESUMABLE)
    for name in sorted(changed):
        was, is_now = changed[name]
        if name == "data_dir":
            # Data may move; whether it is the same cannot be seen from its folder.
            _log.warning(
                "data_dir is %r now; until the checkpoint it was %r: both must hold the same data.", is_now, was
            )
        elif name in decides or (name == "epochs" and is_now < was):
            raise UsageError(
                f"{run}/config.yaml says {name}: {is_now!r}, and its checkpoint was made with {was!r}: put it back, or "
                "start a new run."
            )
        elif name not in resumable:
            _log.warning("%s is %r from now on; until the checkpoint it was %r.", name, is_now, was)
    # One-cycle is laid out for the number of all steps: with another one the learning rate would jump.
    if "epochs" in changed and now.get("scheduler") == "one-cycle":
        raise UsageError("--epochs cannot be raised with the one-cycle schedule: it ends with the run.")


def _deciding_fields(experiment: type[Experiment]) -> set[str]:
    # Of a field that an experiment has for itself, its author alone knows what it decides.
    every_experiments = {field.name for field in dataclasses.fields(Experiment)}
    return every_experiments - marked(experiment, Mark.RESUMABLE) - marked(experiment, Mark.OBSERVING)
