"""A term of the loss that leaves the others no say.

Source: as ``dead-term``; seen from the side of the term that is too large.
Cost: one backward pass per term.
Risk: penalties on weights are left out; terms of a healthy run differ by a factor of ten or a hundred.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import some
from .balance import is_by_weight, is_regularization, small_terms, weight_of


@rule("dominant-term", at="model", needs=["model", "settings"], explained_by=["target-scale", "summed-loss"])
def dominant_term(probe: Probe) -> Iterator[Finding]:
    """Find a term that gives almost all of the gradient, where the others' weights are not the cause."""
    if probe.model is None:
        return
    largest, small = small_terms(probe.model)
    drowned = [
        label for label in small if not is_by_weight(probe, label, largest) and not is_regularization(probe, label)
    ]
    if drowned:
        times = 1 / max(small[label] for label in drowned)
        yield Finding(
            "warning",
            f"term {largest!r} of the loss (weight {weight_of(probe, largest):g}) leaves no say to {some(drowned)}: "
            f"its gradient is {times:,.0f} times as large",
            "give it a smaller weight, or normalize its targets",
            Where(field="weight"),
            {"times": times, "drowned": drowned},
        )
