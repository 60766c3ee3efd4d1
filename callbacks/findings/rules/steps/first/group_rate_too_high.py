"""A group of parameters whose learning rate is far too high, while that of others is not.

Source: rates of head and backbone that are mistyped or exchanged; "wrong learning rate" of N. Humbatova et al., 2020.
Cost: the norms of the first updates.
Risk: a new head is given up to a hundred times the rate of a backbone; its first steps are a tenth of the size at which
weights begin, and here they are as large as that, in the middle of the first five.
"""

from collections.abc import Iterator
from math import isfinite

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ...model.parts import modules_of
from .group_sizes import sides, told

# Of the weights as they begin: next to nothing is left of them after a step.
_REPLACED = 0.8
# The others are fine.
_FINE = 0.3
_TIMES = 30.0
_MOST_SHOWN = 1000.0


@rule("group-rate-too-high", at="steps", needs=["steps", "settings"], explained_by=[
    "inverted-loss", "outputs-not-finite", "weights-not-finite", "loss-not-finite", "exploding-signal",
    "momentum-out-of-range", "summed-loss", "target-scale", "dominant-term", "large-weights", "unnormalized",
    "scale-0-255", "non-finite-images",
])  # fmt: skip
def group_rate_too_high(probe: Probe) -> Iterator[Finding]:
    """Find groups whose first steps replace their weights, beside others whose steps do not."""
    found = sides(probe)
    if found is None:
        return
    low, high = found
    # Rates of different optimizers cannot be compared.
    apart = high.lr >= _TIMES * low.lr or "," in probe.settings.optimizer
    if high.size < _REPLACED or low.size > _FINE or not apart:
        return
    size = f"{high.size:.1f} times" if high.size < _MOST_SHOWN else f"more than {_MOST_SHOWN:,.0f} times"
    losses = [step.loss for step in probe.steps.steps] if probe.steps is not None else []
    broke = any(not isfinite(loss) for loss in losses) and isfinite(losses[0])
    yield Finding(
        "error" if broke else "warning",
        f"the learning rate {high.lr:g} of {told(high, low)} is too high, {high.lr / low.lr:,.0f} times that of other "
        f"parameters ({low.lr:g}): each of the first steps changes these weights by {size} their initial size (about "
        f"0.1% is usual){', and the loss breaks' if broke else ''}",
        f"set the learning rate of this group near {low.lr:g}",
        Where(layer=modules_of(high.names, low.names)[0], field="lr"),
        {"lr": high.lr, "other_lr": low.lr, "size": high.size, "other_size": low.size, "groups": list(high.indices)},
    )
