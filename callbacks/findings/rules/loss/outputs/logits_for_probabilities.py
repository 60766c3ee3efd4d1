"""Scores of any size where the loss expects probabilities or their logarithms.

Source: "wrong loss function" of N. Humbatova et al., 2020; torch's ``NLLLoss`` expects log-probabilities and does not
check.
Cost: sums over the outputs of one batch.
Risk: none that is known: of ``NLLLoss`` the sums are compared over the class axis alone.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Severity, Where
from ....probe.model_probe import OutputProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import SeenTerm, with_outputs
from .probabilities import are_log_probabilities, sums_to_one


@rule("logits-for-probabilities", at="model", needs=["model"], explained_by=[
    "softmax-over-wrong-axis", "outputs-not-finite",
])  # fmt: skip
def logits_for_probabilities(probe: Probe) -> Iterator[Finding]:
    """Find outputs that are no probabilities, or no logarithms of such, before a loss that takes them for these."""
    for term, output in with_outputs(probe):
        if term.takes == "nll" and output.values is not None and not are_log_probabilities(output):
            yield _nll(term, output)
        elif term.takes == "bce" and (output.low < 0 or output.high > 1):
            yield _found(
                "error", term, output, "expects probabilities",
                "use BCEWithLogitsLoss, or end the model in a sigmoid",
            )  # fmt: skip


def _nll(term: SeenTerm, output: OutputProbe) -> Finding:
    if sums_to_one(output, 1):
        return _found(
            "warning", term, output, "expects the logarithms of probabilities, not these themselves",
            "use CrossEntropyLoss on the last layer's values, or end the model in a log_softmax",
        )  # fmt: skip
    return _found(
        "error", term, output, "expects logarithms of probabilities: the loss falls without end",
        "use CrossEntropyLoss, or end the model in a log_softmax",
    )  # fmt: skip


def _found(severity: Severity, term: SeenTerm, output: OutputProbe, expects: str, do: str) -> Finding:
    return Finding(
        severity,
        f"output {output.key!r} has values from {output.low:.2g} to {output.high:.2g}, and {term.name} of term "
        f"{term.label!r} {expects}",
        do,
        Where(key=output.key),
        {"low": output.low, "high": output.high},
    )
