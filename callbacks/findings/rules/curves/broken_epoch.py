"""Steps of an epoch that broke, and metrics that are no numbers.

Source: DeepLocalize (M. Wardat et al., 2021).
Cost: none.
Risk: a gradient scaler that holds its first steps back; there a metric or many steps have to be broken.
"""

from collections.abc import Iterator
from math import isfinite

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule

_SHARE = 0.01
_CAUSES = (
    "gradients-not-finite", "group-rate-too-high",
    "learning-rate-too-high", "non-finite-steps", "outputs-not-finite", "weights-not-finite", "loss-not-finite",
    "non-finite-images", "inverted-loss", "logits-for-probabilities", "falling-scale",
    "large-weights", "exploding-signal", "target-scale", "summed-loss", "dominant-term", "gradients-not-zeroed",
    "momentum-out-of-range", "unnormalized", "scale-0-255", "broadcast-shapes",
)  # fmt: skip


@rule("broken-epoch", at="epoch", needs=["epochs"], explained_by=_CAUSES)
def broken_epoch(probe: Probe) -> Iterator[Finding]:
    """Find epochs with steps that are not finite, or with such a loss."""
    last = probe.epochs[-1]
    lost = [key for key, metrics in last.metrics.items() if not isfinite(metrics.get("loss", 0.0))]
    many = last.non_finite_steps > _SHARE * max(1, last.steps or 0) and last.scales is None
    if lost or many:
        what = f"the loss of {', '.join(lost)} is not finite" if lost else "the loss is not finite in single steps"
        yield Finding(
            "warning",
            f"{what} in epoch {last.epoch} ({last.non_finite_steps:,} of {last.steps or 0:,} steps are broken)",
            "lower the learning rate or clip gradients, and look for a logarithm of 0 in the loss",
            Where(loader=lost[0] if lost else None),
            {"broken": last.non_finite_steps, "steps": last.steps},
        )
