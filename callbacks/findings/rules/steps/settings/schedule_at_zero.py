"""A schedule whose learning rate is zero for a long time.

Source: "wrong learning rate schedule" of N. Humbatova et al., 2020; a factor that is divided in whole numbers.
Cost: none beyond the plan.
Risk: a warm-up that begins at 0 for a step, or a few; a tenth of the run is no warm-up at 0.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share

# Part of the top below which weights do not move.
_ZERO = 1e-6
_LONG = 0.1


@rule("schedule-at-zero", at="model", needs=["settings"])
def schedule_at_zero(probe: Probe) -> Iterator[Finding]:
    """Find plans whose learning rate is 0 throughout, or from the start for a tenth of the run, and groups with 0."""
    plan, name = probe.settings.lr_plan, probe.settings.scheduler
    groups = probe.settings.groups
    if groups and not any(group.lr for group in groups):
        yield Finding(
            "error",
            "the learning rate is 0: no weight ever changes",
            "set a learning rate above 0",
            Where(field="lr"),
            {"lr": [group.lr for group in groups]},
        )
        return
    top = max(plan, default=0.0)
    zeros = next((index for index, factor in enumerate(plan) if factor > _ZERO * max(top, _ZERO)), len(plan))
    if plan and zeros > max(2, _LONG * len(plan)):
        whole = zeros == len(plan)
        span = "the whole run" if whole else f"the first {share(zeros, len(plan))} of the run"
        yield Finding(
            "error" if whole else "warning",
            f"{name} keeps the learning rate at 0 for {span}: no weight changes then",
            "look at what the schedule returns for the first steps",
            Where(field="scheduler"),
            {"zeros": zeros, "points": len(plan)},
        )
