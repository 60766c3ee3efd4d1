"""A term of the loss whose weight leaves it no say.

Source: A. Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses", 2018.
Cost: one backward pass per term.
Risk: penalties on weights, which compare nothing with a target, are left out.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from .balance import is_by_weight, is_regularization, small_terms, weight_of


@rule("dead-term", at="model", needs=["model", "settings"])
def dead_term(probe: Probe) -> Iterator[Finding]:
    """Find terms that give next to nothing of the gradient by their own weight."""
    if probe.model is None:
        return
    largest, small = small_terms(probe.model)
    for label, part in small.items():
        if is_by_weight(probe, label, largest) and not is_regularization(probe, label):
            yield Finding(
                "warning",
                f"term {label!r} of the loss has no say: its weight is {weight_of(probe, label):g}, and its gradient "
                f"is {share(part, 1)} of that of {largest!r}",
                "give it a weight by which its gradient is about as large, or remove it",
                Where(field="weight"),
                {"share": part, "weight": weight_of(probe, label)},
            )
