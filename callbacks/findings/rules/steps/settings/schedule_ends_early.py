"""A learning rate that is next to nothing for half of the run.

Source: a schedule counted in epochs that steps per batch; "wrong learning rate schedule" of N. Humbatova et al., 2020.
Cost: none beyond the plan.
Risk: schedules that drop twice by ten near the end; here it is a thousandth, and half of the run, or a fiftieth where
the schedule would be a gentle one if it stepped by epoch.
"""

from collections.abc import Iterator, Sequence

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share

_SMALL, _PART = 1e-3, 0.4
# Of schedules per batch that would fall far later if they were stepped per epoch.
_SMALL_BY_BATCH, _PART_BY_BATCH, _MORE_THAN_BY_EPOCH = 0.02, 0.45, 0.3
_FEWEST_STEPS = 20


@rule("schedule-ends-early", at="model", needs=["settings"], explained_by=["schedule-at-zero"])
def schedule_ends_early(probe: Probe) -> Iterator[Finding]:
    """Find plans that end below a thousandth of their top long before the run does."""
    settings = probe.settings
    plan = settings.lr_plan
    top = max(plan, default=0.0)
    if top <= 0 or len(plan) < _FEWEST_STEPS:
        return
    small, left = _SMALL, _left(plan, _SMALL)
    if left < _PART:
        small, left = _SMALL_BY_BATCH, _left(plan, _SMALL_BY_BATCH)
        by_epoch = settings.lr_plans.get("epoch", ())
        meant = settings.scheduler_step == "batch" and by_epoch and left - _left(by_epoch, small) >= _MORE_THAN_BY_EPOCH
        if left < _PART_BY_BATCH or not meant:
            return
    yield Finding(
        "warning",
        f"{settings.scheduler}, which steps once per {settings.scheduler_step}, brings the learning rate below a "
        f"{'thousandth' if small == _SMALL else 'fiftieth'} of its top for the last {share(left, 1)} of the run: next "
        "to nothing is learned there",
        "give the schedule as many steps as the run has, in the unit in which it steps",
        Where(field="scheduler_step"),
        {"left": left, "scheduler_step": settings.scheduler_step},
    )


def _left(plan: Sequence[float], small: float) -> float:
    """Return the part of a plan after which it is below a part of its top."""
    last = max(index for index, factor in enumerate(plan) if factor > small * max(plan))
    return (len(plan) - 1 - last) / len(plan)
