"""A loss that is NaN or infinite on the first batch.

Source: DeepLocalize (M. Wardat et al., 2021); logarithms of 0 and divisions by an empty mask.
Cost: none.
Risk: a batch without targets; the sentence says which batch it is.
"""

from collections.abc import Iterator
from math import isfinite

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import with_trials


@rule("loss-not-finite", at="model", needs=["trial"], explained_by=[
    "outputs-not-finite", "weights-not-finite", "non-finite-images", "logits-for-probabilities",
])  # fmt: skip
def loss_not_finite(probe: Probe) -> Iterator[Finding]:
    """Find terms whose value on the first training batch is no number, though outputs are."""
    for term, trial in with_trials(probe):
        if trial.actual is not None and not isfinite(trial.actual):
            yield Finding(
                "error",
                f"term {term.label!r} of the loss is {trial.actual} on the first training batch, before any step",
                "look for the logarithm of 0, a division by 0 or a root of 0 in the criterion",
                Where(key=term.output_key or None),
                {"value": str(trial.actual)},
            )
