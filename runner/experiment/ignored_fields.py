"""Refuse what is given for nothing: fields that the values of others leave without a use."""

import dataclasses
from typing import Any

from assay.callbacks.errors import UsageError

from ..choices import SCHEDULERS
from .field_names import flag_of
from .fields import GROUPS

_OF_SCHEDULES = {
    "lr_min": ("cosine", "cyclic", "plateau"),
    "milestones": ("multi-step",),
    "gamma": ("multi-step", "plateau"),
    "cycle_epochs": ("cyclic",),
    "plateau_patience": ("plateau",),
    "scheduler_options": ("one-cycle", "cyclic", "plateau"),
}


def check_ignored(experiment: Any, name: str) -> None:
    """Raise for the first field with a value that the experiment would ignore, unless it is a default.

    A default is that of the experiment or that of all experiments, which takes an experiment's own back. The check is
    for new runs: one of before goes on, and is evaluated, with what it was started with.

    Args:
        experiment: what is to be trained.
        name: of the experiment.
    """
    nowhere = f"has no use in {name!r}, which would ignore it: leave it out"
    reasons = dict.fromkeys(experiment.fields_without_use(), nowhere) | experiment.ignored_fields()
    for field in dataclasses.fields(experiment):
        if field.name in reasons and getattr(experiment, field.name) not in _defaults_of(field.name, experiment):
            raise UsageError(f"{flag_of(field.name)} {reasons[field.name]}.")


def ignored_by_all(experiment: Any) -> dict[str, str]:
    """Return the fields of every experiment that the values of others leave without a use, each with what to do."""
    # A schedule of the experiment's own may use any of them.
    of_schedule = {} if _has_own(experiment, "get_scheduler") else _ignored_by_schedule(experiment)
    return of_schedule | _ignored_by_fine_tuning(experiment) | _ignored_by_diagnostics(experiment)


def has_use(field: str, schedule: str) -> bool:
    """Whether a schedule uses a field.

    Example:
        >>> has_use("gamma", "multi-step"), has_use("gamma", "cosine")
        (True, False)
    """
    return _plain(schedule) in _OF_SCHEDULES.get(field, SCHEDULERS)


def _ignored_by_schedule(experiment: Any) -> dict[str, str]:
    schedule = _plain(experiment.scheduler)
    reasons = {
        field: f"has no use with --scheduler {schedule}, only with {', '.join(those)}: leave it out, or change one"
        for field, those in _OF_SCHEDULES.items()
        if not has_use(field, schedule)
    }
    if schedule == "multi-step" and not experiment.milestones:
        reasons["scheduler"] = (
            "multi-step needs --milestones, the epochs to drop the learning rate after, such as '[30, 60]': without "
            "them it would never drop"
        )
    if schedule in ("one-cycle", "cyclic") and experiment.scheduler_options.get("cycle_momentum"):
        reasons["momentum"] = (
            "has no use with cycle_momentum in --scheduler-options, which moves the momentum by itself: leave one of "
            "them out, or give base_momentum and max_momentum there"
        )
    return reasons


def _ignored_by_fine_tuning(experiment: Any) -> dict[str, str]:
    epoch, last = experiment.unfreeze_epoch, experiment.epochs
    if experiment.freeze is None:
        return {"unfreeze_epoch": "has no use without --freeze: leave it out, or give that too"}
    if epoch is not None and epoch > last:
        return {"unfreeze_epoch": f"must be at most --epochs {last}, got {epoch}: leave it out to unfreeze nothing"}
    return {}


def _ignored_by_diagnostics(experiment: Any) -> dict[str, str]:
    level = experiment.diagnostics
    # "off" asks for nothing that would be missed.
    if level == "full" or experiment.sample_history == "off":
        return {}
    return {"sample_history": f"has no use with --diagnostics {level}, only with full: leave it out, or change one"}


def _has_own(experiment: Any, method: str) -> bool:
    """Whether an experiment has a method that is not that of ``Experiment``."""
    owners = [one for one in type(experiment).__mro__ if method in vars(one)]
    return bool(owners) and owners[0].__module__ != f"{__package__}.base"


def _defaults_of(name: str, experiment: Any) -> list[Any]:
    found = [it for one in (type(experiment), *GROUPS) for it in dataclasses.fields(one) if it.name == name]
    return [it.default if it.default_factory is dataclasses.MISSING else it.default_factory() for it in found]


def _plain(schedule: str) -> str:
    return schedule.replace("_", "-").lower()
