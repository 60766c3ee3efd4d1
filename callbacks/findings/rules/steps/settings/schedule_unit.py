"""A schedule that is counted in batches and steps once per epoch, so that the learning rate hardly moves.

Source: ``OneCycleLR(total_steps=epochs * len(loader))``, or a warm-up of some hundred steps, stepped by epoch, which is
the default of Catalyst's ``SchedulerCallback`` and of ``DictRunner``.
Cost: none beyond the plans.
Risk: short trials of long schedules hardly move the rate either; so what falls has to be made for just as many steps as
the run has batches, and a warm-up has to end within the run if it is stepped per batch, and nowhere near it otherwise.
"""

from collections.abc import Iterator, Sequence

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.settings_probe import SettingsProbe
from ....probe.wording import count, share

# A warm-up that stays below this part of its top, and takes twice the epochs and at least so many steps, ...
_LOW, _TIMES, _FEWEST_UP = 0.4, 2, 8
# ... and that is over in this part of the run if it is stepped per batch.
_OVER = 0.6
# A cycle of so many times the epochs, and the part of its top below which a run is at its start.
_CYCLE, _START = 10, 0.2
# A fall of which less than this is seen, and that is made for so many steps, in parts of those that the run has.
_STAYS, _ENDS = 0.7, (0.93, 1.1)
_FEWEST_EPOCHS, _FEWEST_STEPS = 2, 16
# What is left of the rate where a schedule without a length ends, and where it cannot have ended yet.
_END, _NOT_YET = 0.01, 0.85


@rule("schedule-unit", at="model", needs=["settings"], explained_by=["schedule-at-zero"])
def schedule_unit(probe: Probe) -> Iterator[Finding]:
    """Find plans that hardly move by epoch, and are whole by batch."""
    settings = probe.settings
    plan, otherwise = settings.lr_plan, settings.lr_plans.get("batch", ())
    if settings.scheduler_step != "epoch" or len(plan) < 2 or len(otherwise) != len(plan):
        return
    top = max(otherwise)
    if _is_start_of_cycle(settings):
        so = f"the learning rate never gets above {share(max(plan), 1)} of its top"
    elif max(plan) < _LOW * top and _warms_up_in_batches(settings, otherwise):
        so = f"the learning rate never gets above {share(max(plan), top)} of its top"
    elif min(plan) > _STAYS * max(plan) and _falls_in_batches(settings, otherwise):
        so = f"the learning rate hardly falls, to {share(min(plan), top)} of its top"
    else:
        return
    length, batches = settings.scheduler_length, _steps(settings)
    made = f"is made for {length:,} steps" if length else "is counted in batches"
    yield Finding(
        "warning",
        f"{settings.scheduler} {made} and steps once per epoch, {count(settings.epochs, 'time')} in a run of "
        f"{batches:,} batches: {so}",
        "step it per batch (scheduler_step='batch', or SchedulerCallback(mode='batch')), or count it in epochs",
        Where(field="scheduler_step"),
        {"length": length, "epochs": settings.epochs, "batches": batches, "first": plan[0], "last": plan[-1]},
    )


def _steps(settings: SettingsProbe) -> int:
    return settings.epochs * settings.steps_per_epoch


def _is_start_of_cycle(settings: SettingsProbe) -> bool:
    """Whether one cycle takes many times the epochs, of which nothing but its low start is seen."""
    length, largest = settings.scheduler_length or 0, max(settings.lr_plan)
    return settings.scheduler == "OneCycleLR" and length >= _CYCLE * settings.epochs and largest < _START


def _warms_up_in_batches(settings: SettingsProbe, plan: Sequence[float]) -> bool:
    """Whether the plan by batch reaches its top early in the run, after far more steps than there are epochs."""
    top = max(plan)
    reached = next(index for index, factor in enumerate(plan) if factor >= 0.99 * top) / (len(plan) - 1)
    return reached <= _OVER and reached * (_steps(settings) - 1) >= max(_FEWEST_UP, _TIMES * settings.epochs)


def _falls_in_batches(settings: SettingsProbe, plan: Sequence[float]) -> bool:
    """Whether the plan by batch falls all the way, and ends just where the run does."""
    steps = _steps(settings)
    if settings.epochs < _FEWEST_EPOCHS or steps < _FEWEST_STEPS or plan[-1] > 0.5 * max(plan):
        return False
    if settings.scheduler_length is not None:
        parts = [settings.scheduler_length / (steps * gathered) for gathered in (1, settings.accumulate_steps)]
        return any(_ENDS[0] <= part <= _ENDS[1] for part in parts)
    ended = max(_END, 1.5 / steps) * max(plan)
    return plan[-1] <= ended < min(plan[: int(_NOT_YET * len(plan))])
