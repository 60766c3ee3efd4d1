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
from .fields import GROUPS

# Fields that may change when a run goes on. All else would make it another run, or is of its course alone.
RESUMABLE = (
    "epochs",
    "device",
    "workers",
    "threads",
    "data_dir",
    "on_save_error",
    "save_every_steps",
    "save_every_minutes",
)
# Fields that change what is shown of a run, and not its course: an edit is taken, with a warning. So is one of a field
# that an experiment has for itself, of which its author alone knows what it decides.
_OBSERVING = ("diagnostics", "max_overhead", "log_every_steps", "patience", "top_k", "detect_anomaly")
_EVERY_EXPERIMENTS = {field.name for group in GROUPS for field in dataclasses.fields(group)}
# Fields that belong to a machine: processes on several may differ in them.
_OF_A_MACHINE = ("device", "workers", "threads", "data_dir")

_log = logging.getLogger("assay")


def experiment_settings(name: str, experiment: Any) -> dict[str, Any]:
    """Return what the processes of an experiment must agree on: its name, its fields by their flags, and the code."""
    fields = dataclasses.asdict(experiment)
    source = inspect.getsourcefile(type(experiment))
    return {
        "the experiment": name,
        **{f"--{key.replace('_', '-')}": value for key, value in fields.items() if key not in _OF_A_MACHINE},
        "the checksum of its file": short_checksum(Path(source).read_bytes())
        if source and Path(source).is_file()
        else None,
        "the version of torch": torch.__version__.partition("+")[0],
    }


def check_fields(run: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare the fields that a checkpoint was made with and those of the run that goes on from it.

    Raises:
        UsageError: one differs that decides about the course of the run; the message names it and both values.
    """
    changed = {name: (before[name], now[name]) for name in before.keys() & now.keys() if before[name] != now[name]}
    for name in sorted(changed):
        was, is_now = changed[name]
        if name == "data_dir":
            _log.warning("data_dir is %r now; until the checkpoint it was %r: they must hold the same.", is_now, was)
        elif name in _OBSERVING or name not in _EVERY_EXPERIMENTS:
            _log.warning("%s is %r from now on; until the checkpoint it was %r.", name, is_now, was)
        elif name not in RESUMABLE or (name == "epochs" and is_now < was):
            raise UsageError(
                f"{run}/config.yaml says {name}: {is_now!r}, and its checkpoint was made with {was!r}: put it back, or "
                "start a new run."
            )
    if "epochs" in changed and now.get("scheduler") == "one-cycle":
        raise UsageError("--epochs cannot be raised with the one-cycle schedule: it ends with the run.")
