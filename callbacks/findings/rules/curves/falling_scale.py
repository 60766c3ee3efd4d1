"""A gradient scaler that only falls.

Source: P. Micikevicius et al., "Mixed Precision Training", 2018.
Cost: none.
Risk: a scaler finds its scale by halving some times; a hundredth and less than 16 is far beyond that.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule

_PART, _SMALL = 0.01, 16.0


@rule("falling-scale", at="epoch", needs=["epochs"], explained_by=[
    "learning-rate-too-high", "group-rate-too-high", "non-finite-steps",
])  # fmt: skip
def falling_scale(probe: Probe) -> Iterator[Finding]:
    """Find epochs in which the scale has fallen to next to nothing."""
    last = probe.epochs[-1]
    if last.scales is None:
        return
    first, now = last.scales
    if now < _PART * first and now < _SMALL:
        yield Finding(
            "warning",
            f"the scale of gradients fell from {first:g} to {now:g} in epoch {last.epoch}: half precision overflows in "
            "most steps",
            "use precision bf16 or fp32, or look for the layer whose outputs are too large",
            Where(field="precision"),
            {"first": first, "last": now},
        )
