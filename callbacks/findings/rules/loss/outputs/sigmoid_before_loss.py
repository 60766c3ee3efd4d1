"""A sigmoid before a loss that expects logits.

Source: A. Karpathy's recipe, 2019; torch's ``BCEWithLogitsLoss`` beside ``BCELoss``.
Cost: the range of the outputs of one batch.
Risk: logits of a fresh net may all lie within 0 and 1 by a bias, so there have to be enough of them, and what is known
to come out of a linear layer is none.
"""

from collections.abc import Iterator

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.model_probe import OutputProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import with_outputs
from .probabilities import ends_linearly, sums_to_one, within_one

_TAKE_LOGITS = ("cross_entropy", "bce_logits", "focal")
# Logits of a fresh layer lie around 0: that so many are all within 0 and 1 does not happen by chance.
_FEWEST = 16
# A ReLU gives zeros, a sigmoid none but by underflow.
_MOST_ZEROS = 0.02
# Outputs that are all the same are another fault.
_SPREAD = 1e-6


@rule("sigmoid-before-loss", at="model", needs=["model"])
def sigmoid_before_loss(probe: Probe) -> Iterator[Finding]:
    """Find outputs within 0 and 1 before a loss that expects unbounded scores."""
    for term, output in with_outputs(probe):
        if term.takes in _TAKE_LOGITS and not sums_to_one(output, 1) and _is_sigmoid(output):
            itself = "a sigmoid" if term.takes == "bce_logits" else "a softmax" if term.classes > 1 else "a sigmoid"
            yield Finding(
                "warning",
                f"output {output.key!r} is a sigmoid already (all values lie within {output.low:.2g} and "
                f"{output.high:.2g}), and {term.name} of term {term.label!r} takes {itself} itself",
                "let the model return its last layer's values, and take the sigmoid only to predict",
                Where(key=output.key),
                {"low": output.low, "high": output.high},
            )


def _is_sigmoid(output: OutputProbe) -> bool:
    values = output.values
    if values is None or values.size < _FEWEST or not within_one(output) or ends_linearly(output):
        return False
    # Softmaxes over another axis are told of by another rule.
    others = any(sums_to_one(output, axis) for axis in output.sums)
    return not others and float((values == 0).mean()) <= _MOST_ZEROS and float(np.ptp(values)) > _SPREAD
