"""A cosine that goes up again, as it is shorter than the run.

Source: torch's ``CosineAnnealingLR`` is a wave: past ``T_max`` the learning rate rises again. ``T_max`` in epochs with
a step per batch is the usual cause.
Cost: none beyond the plan.
Risk: restarts and cycles on purpose have schedulers of their own, which are left out, and restarts jump up at once.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.settings_probe import SettingsProbe

# Part of the top; the last step of a run may lie just past the end of the wave.
_RISES = 0.2
_TOP = 0.999
# Of a warm-up with a cosine after it, and of a function, which may mean to rise again.
_RISES_ELSEWHERE, _LOW, _JUMP = 0.5, 0.2, 0.8


@rule("schedule-swings", at="model", needs=["settings"])
def schedule_swings(probe: Probe) -> Iterator[Finding]:
    """Find plans of a cosine that rise again after their lowest point."""
    settings = probe.settings
    plan = settings.lr_plan
    if not plan:
        return
    # Not the largest, as a wave comes back to it with an error of rounding.
    after = plan[next(index for index, factor in enumerate(plan) if factor >= _TOP * max(plan)) :]
    lowest, rise = after[0], 0.0
    for factor in after:
        lowest = min(lowest, factor)
        rise = max(rise, factor - lowest)
    if _is_wave(settings, after, rise):
        unit, length = settings.scheduler_step, settings.scheduler_length
        steps = settings.epochs * (settings.steps_per_epoch if unit == "batch" else 1)
        made = "is made for fewer steps than the run has" if length is None else f"is made for {length:,} steps"
        yield Finding(
            "warning",
            f"{settings.scheduler} {made} and steps once per {unit}, {steps:,} times: the learning rate falls to "
            f"{min(after):.2g} of the given one and rises again to {min(after) + rise:.2g}{_often(after, steps)}",
            f"set its length, such as T_max, to the number of {unit} steps of the run, {steps:,}"
            + (", or step it once per epoch" if unit == "batch" else ""),
            Where(field="scheduler_step"),
            {"rise": rise, "scheduler_step": unit, "length": length, "steps": steps},
        )


def _is_wave(settings: SettingsProbe, after: Sequence[float], rise: float) -> bool:
    top = max(after)
    if settings.scheduler == "CosineAnnealingLR":
        return rise > _RISES * top
    if rise < _RISES_ELSEWHERE * top or min(after) > _LOW * top or settings.scheduler_step != "batch":
        return False
    if settings.scheduler == "SequentialLR":
        # Restarts jump, and of restarts and cycles the length is not known.
        jump = max(later - before for before, later in pairwise(after))
        return settings.scheduler_length is not None and jump < _JUMP * top
    # A function that is at its lowest after just as many steps as there are epochs has meant epochs.
    return settings.scheduler == "LambdaLR" and settings.epochs > 1 and _first_low(after) == settings.epochs


def _first_low(after: Sequence[float]) -> int:
    """Return after how many points the first fall ends."""
    return next((index for index, (now, later) in enumerate(pairwise(after)) if later > now), len(after))


def _often(after: Sequence[float], steps: int) -> str:
    """Return how often it rises, of a plan that shows each step."""
    middle = (max(after) + min(after)) / 2
    rises = sum(before < middle <= later for before, later in pairwise(after))
    return f", {rises} times" if rises > 1 and len(after) > steps // 2 else ""
