"""A warm-up that the run does not get past.

Source: warm-up steps counted in batches where the schedule steps by epochs, or for a longer run.
Cost: none beyond the plan.
Risk: runs of some steps, as tests are, are left out, unless the rate hardly leaves the ground; so are schedules that go
up and down.
"""

from collections.abc import Iterator
from itertools import pairwise

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.settings_probe import SettingsProbe

# Shorter runs try something out.
_FEWEST_STEPS = 50
# Of a plan that ends below a fifth of what was asked for.
_FEWEST_LOW, _LOW = 10, 0.2
# It has to rise by a half: a constant rate with a short warm-up does not.
_RISES = 1.5
# Part of the run at which it must have reached the top.
_LATE = 0.85
# Runs whose middle is the last epoch, or near it, where the schedule steps by epoch.
_FEW_EPOCHS = 3


@rule("endless-warmup", at="model", needs=["settings"], explained_by=["schedule-at-zero", "schedule-unit"])
def endless_warmup(probe: Probe) -> Iterator[Finding]:
    """Find plans that rise until the end of the run."""
    settings = probe.settings
    plan = settings.lr_plan
    if len(plan) < 2 or _steps(settings) < (_FEWEST_LOW if max(plan) < _LOW else _FEWEST_STEPS):
        return
    top = max(plan)
    reached = next(index for index, factor in enumerate(plan) if factor >= 0.99 * top)
    late = _LATE if settings.scheduler_step == "batch" else min(_LATE, 1 - 1 / settings.epochs)
    middle = plan[len(plan) // 2 if settings.epochs > _FEW_EPOCHS else 0]
    rises = all(later >= before * (1 - 1e-9) for before, later in pairwise(plan[: reached + 1]))
    if rises and reached >= late * (len(plan) - 1) and middle * _RISES < top:
        yield Finding(
            "warning",
            f"the warm-up of {settings.scheduler} lasts for the whole run of {_steps(settings):,} steps: the learning "
            f"rate still rises at the end (it is {plan[0]:.2g} of the given one at the start and {plan[-1]:.2g} at the "
            f"end; the schedule steps once per {settings.scheduler_step})",
            "shorten the warm-up to a tenth of the run, or step the schedule per batch",
            Where(field="scheduler_step"),
            {"first": plan[0], "last": plan[-1], "steps": _steps(settings)},
        )


def _steps(settings: SettingsProbe) -> int:
    return settings.epochs * settings.steps_per_epoch
