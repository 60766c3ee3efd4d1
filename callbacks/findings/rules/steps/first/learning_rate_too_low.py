"""A learning rate at which weights stay where they are.

Source: as ``learning-rate-too-high``, from the other side.
Cost: the norms of the first updates.
Risk: warm-up, which is taken out by what the schedule plans; fine-tuning, whose steps are ten times larger than the
limit; weights before a normalization, which look large beside their updates, so the middle one of all counts.
"""

from collections.abc import Iterator
from statistics import median

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.settings_probe import SettingsProbe
from ....probe.steps_probe import StepProbe
from .updates import ratio, weight_names

# A thousandth of the usual thousandth.
_FAR = 1e-6
# Or ten times that, where the weights cannot move by a hundredth in the whole run, ...
_LOW, _MOVES = 1e-5, 0.01
# ... a run of so many steps at least: a short one is a trial.
_SHORTEST = 1000
_FEWEST = 5


@rule("learning-rate-too-low", at="steps", needs=["steps"], explained_by=[
    "schedule-at-zero", "tiny-clip", "clipped-far", "weights-do-not-change", "vanishing-signal", "all-frozen",
    "saturated-units", "dead-units", "dead-term", "zero-weights", "endless-warmup", "outputs-not-finite",
    "small-weights", "large-weights", "softmax-before-loss", "symmetric-weights", "group-rate-too-low",
])  # fmt: skip
def learning_rate_too_low(probe: Probe) -> Iterator[Finding]:
    """Find updates that are nothing beside the weights, at the top of the schedule too."""
    steps = probe.steps.steps if probe.steps is not None else ()
    names = weight_names(probe)
    found = [
        one * _to_top(probe.settings, step)
        for step, one in ((step, ratio(step, names)) for step in steps)
        if one is not None
    ]
    if len(found) < 3 or len(steps) < _FEWEST or not all(step.finite for step in steps):
        return
    size = median(found)
    total = max(_SHORTEST, probe.settings.epochs * probe.settings.steps_per_epoch)
    if 0 < size < _FAR or (0 < size < _LOW and size * total < _MOVES):
        rate = max((group.lr for group in probe.settings.groups), default=max(steps[-1].lr, default=0.0))
        yield Finding(
            "warning",
            f"the learning rate {rate:g} of {probe.settings.optimizer or 'the optimizer'} is too low: a step changes "
            f"weights by {size:.1e} of their size (about 1e-3 is usual), {min(1.0, size * total):.2%} in {total:,} "
            "steps",
            "multiply the learning rate by 100 to 1000",
            Where(field="lr"),
            {"ratio": size, "lr": rate},
        )


def _to_top(settings: SettingsProbe, step: StepProbe) -> float:
    """Return how much larger the learning rate becomes than it was in a step."""
    rates = [(group.lr, lr) for group, lr in zip(settings.groups, step.lr, strict=False) if lr > 0]
    top = max(settings.lr_plan, default=1.0)
    return max(1.0, median(given * top / lr for given, lr in rates)) if rates else 1.0
