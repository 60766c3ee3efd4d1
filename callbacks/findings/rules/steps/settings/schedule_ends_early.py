"""A learning rate that is next to nothing for half of the run.

Source: a schedule counted in epochs that steps per batch; "wrong learning rate schedule" of N. Humbatova et al., 2020.
Cost: none beyond the plan.
Risk: schedules that drop twice by ten near the end; here it is a thousandth, and half of the run.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share

_SMALL = 1e-3
_PART = 0.4
_FEWEST_STEPS = 20


@rule("schedule-ends-early", at="model", needs=["settings"], explained_by=["schedule-at-zero"])
def schedule_ends_early(probe: Probe) -> Iterator[Finding]:
    """Find plans that end below a thousandth of their top long before the run does."""
    settings = probe.settings
    plan = settings.lr_plan
    top = max(plan, default=0.0)
    if top <= 0 or len(plan) < _FEWEST_STEPS:
        return
    last = max(index for index, factor in enumerate(plan) if factor > _SMALL * top)
    left = (len(plan) - 1 - last) / len(plan)
    if left >= _PART:
        yield Finding(
            "warning",
            f"{settings.scheduler}, which steps once per {settings.scheduler_step}, brings the learning rate below a "
            f"thousandth of its top for the last {share(left, 1)} of the run: nothing is learned there",
            "give the schedule as many steps as the run has, in the unit in which it steps",
            Where(field="scheduler_step"),
            {"left": left, "scheduler_step": settings.scheduler_step},
        )
