"""A loss that does not depend on the model's outputs.

Source: A. Karpathy's recipe, 2019 (is the loss what you think it is?); a criterion that takes the target twice, an
argmax, a detached output.
Cost: four calls of the criterion.
Risk: criteria that cost nothing below a margin; they cost something for wrong answers.
"""

from collections.abc import Iterator
from math import isclose

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import with_trials


@rule("constant-loss", at="model", needs=["trial"], explained_by=["output-count", "loss-not-finite"])
def constant_loss(probe: Probe) -> Iterator[Finding]:
    """Find terms that cost the same for right, wrong, blank and the model's own outputs."""
    for term, trial in with_trials(probe):
        costs = [trial.actual, trial.blank, trial.right, trial.wrong]
        known = [cost for cost in costs if cost is not None]
        if len(known) == len(costs) and all(isclose(cost, known[0], rel_tol=1e-6, abs_tol=1e-9) for cost in known):
            yield Finding(
                "error",
                f"term {term.label!r} of the loss is {known[0]:.4g} whatever the model answers",
                "look at what the criterion is given: it must depend on the output",
                Where(key=term.output_key or None),
                {"value": known[0]},
            )
