"""A cosine that goes up again, as it is shorter than the run.

Source: torch's ``CosineAnnealingLR`` is a wave: past ``T_max`` the learning rate rises again. ``T_max`` in epochs with
a step per batch is the usual cause.
Cost: none beyond the plan.
Risk: restarts and cycles on purpose have schedulers of their own, which are left out.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

# Part of the top; the last step of a run may lie just past the end of the wave.
_RISES = 0.2


@rule("schedule-swings", at="model", needs=["settings"])
def schedule_swings(probe: Probe) -> Iterator[Finding]:
    """Find plans of a cosine that rise again after their lowest point."""
    settings = probe.settings
    plan = settings.lr_plan
    if settings.scheduler != "CosineAnnealingLR" or not plan:
        return
    top = plan.index(max(plan))
    lowest, rise = plan[top], 0.0
    for factor in plan[top:]:
        lowest = min(lowest, factor)
        rise = max(rise, factor - lowest)
    if rise > _RISES * max(plan):
        yield Finding(
            "warning",
            f"{settings.scheduler} steps once per {settings.scheduler_step} and its T_max is shorter than the run: the "
            f"learning rate falls to {min(plan):.2g} of the given one and rises again to {min(plan) + rise:.2g}",
            f"set T_max to the number of {settings.scheduler_step} steps of the run, "
            f"{settings.epochs * (settings.steps_per_epoch if settings.scheduler_step == 'batch' else 1):,}",
            Where(field="scheduler_step"),
            {"rise": rise, "scheduler_step": settings.scheduler_step},
        )
