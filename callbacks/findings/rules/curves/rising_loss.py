"""A training loss that rises from epoch to epoch.

Source: AUTOTRAINER (X. Zhang et al., 2021); "loss diverges".
Cost: none.
Risk: losses whose terms are weighed anew; so it has to rise by a half, above where the first epoch was. The first steps
of a deep net with momentum overshoot, so an epoch has to have some; and of several optimizers each works against the
loss of another, as in a GAN.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule

_RISES = 1.5
_FEWEST_STEPS = 10
_CAUSES = (
    "group-rate-too-high", "maximized-loss",
    "learning-rate-too-high", "inverted-loss", "gradients-not-zeroed", "momentum-out-of-range", "heavy-weight-decay",
    "broken-epoch", "non-finite-steps", "schedule-swings",
    "large-weights", "exploding-signal", "target-scale", "summed-loss", "dominant-term",
)  # fmt: skip


@rule("rising-loss", at="epoch", needs=["epochs"], explained_by=_CAUSES)
def rising_loss(probe: Probe) -> Iterator[Finding]:
    """Compare the loss of training with that of the first epoch."""
    found = [
        (key, metrics["loss"])
        for epoch in (probe.epochs[0], probe.epochs[-1])
        for key, metrics in epoch.metrics.items()
        if key.startswith("train") and "loss" in metrics
    ]
    few = (probe.epochs[-1].steps or _FEWEST_STEPS) < _FEWEST_STEPS
    if few or "," in probe.settings.optimizer:
        return
    if len(probe.epochs) > 1 and len(found) == 2 and found[0][1] > 0 and found[1][1] > _RISES * found[0][1]:
        yield Finding(
            "warning",
            f"the loss of {found[0][0]} rises: {found[0][1]:.3g} in epoch {probe.epochs[0].epoch} and "
            f"{found[1][1]:.3g} in epoch {probe.epochs[-1].epoch}",
            "divide the learning rate by 10",
            Where(loader=found[0][0], field="lr"),
            {"first": found[0][1], "last": found[1][1]},
        )
