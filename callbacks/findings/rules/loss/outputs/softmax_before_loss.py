"""A softmax before a loss that takes one itself.

Source: A. Karpathy's recipe, 2019; "softmax twice" of NeuraLint, 2021, and UMLAUT, 2021.
Cost: sums over the outputs of one batch.
Risk: outputs that sum to 1 by chance do not occur; an output of two numbers that sum to 1 is a softmax too.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import with_outputs
from .probabilities import sums_to_one

_TAKE_LOGITS = ("cross_entropy", "bce_logits", "focal")


@rule("softmax-before-loss", at="model", needs=["model"])
def softmax_before_loss(probe: Probe) -> Iterator[Finding]:
    """Find outputs whose classes sum to 1 before a loss that expects unbounded scores."""
    for term, output in with_outputs(probe):
        if term.takes in _TAKE_LOGITS and term.classes > 1 and sums_to_one(output, 1):
            itself = "a sigmoid" if term.takes == "bce_logits" else "a softmax"
            yield Finding(
                "warning",
                f"output {output.key!r} is a softmax already (its classes sum to 1), and {term.name} of term "
                f"{term.label!r} takes {itself} itself: the gradients are far too small",
                "let the model return its last layer's values, and take the softmax only to predict",
                Where(key=output.key),
                {"low": output.low, "high": output.high, "sum": output.sums[1][0]},
            )
