"""A ReLU before a loss that expects logits.

Source: "wrong activation of the last layer" of N. Humbatova et al., 2020.
Cost: the smallest output of one batch, and the share of zeros.
Risk: none that is known: logits are not exactly 0.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ..seen_terms import with_outputs

_TAKE_LOGITS = ("cross_entropy", "bce_logits", "focal")
# A fresh layer gives half of its values below 0; a twentieth leaves room for a bias.
_ZEROS = 0.05


@rule("relu-before-loss", at="model", needs=["model"], explained_by=["zero-weights", "constant-output"])
def relu_before_loss(probe: Probe) -> Iterator[Finding]:
    """Find outputs without negative values and with many zeros before a loss that expects unbounded scores."""
    for term, output in with_outputs(probe):
        values = output.values
        if term.takes not in _TAKE_LOGITS or output.low != 0 or output.high <= 0 or values is None:
            continue
        zeros = float((values == 0).mean())
        if zeros >= _ZEROS:
            yield Finding(
                "warning",
                f"output {output.key!r} ends in a ReLU ({share(zeros, 1)} of its values are exactly 0 and none are "
                f"negative), and {term.name} of term {term.label!r} expects values of both signs",
                "remove the activation after the last layer",
                Where(key=output.key),
                {"zeros": zeros, "low": output.low, "high": output.high},
            )
