"""Weights or buffers that hold NaN or infinity before the first step.

Source: uninitialized memory (``torch.empty``) and broken checkpoints.
Cost: sums of all weights.
Risk: none: such a model gives NaN for good.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import told, verb


@rule("weights-not-finite", at="model", needs=["model"])
def weights_not_finite(probe: Probe) -> Iterator[Finding]:
    """Find parameters that are not finite."""
    if probe.model is None:
        return
    broken = [it.name for it in probe.model.parameters if not it.finite]
    if broken or not probe.model.buffers_finite:
        thing = (
            f"{told(broken, 'parameter')} {verb(broken, 'holds', 'hold')}"
            if broken
            else "a buffer, such as a running mean, of the model holds"
        )
        yield Finding(
            "error",
            f"{thing} NaN or infinity before the first step",
            "initialize it (torch.empty does not), or load another checkpoint",
            Where(layer=broken[0] if broken else None),
            {"parameters": broken[:8], "count": len(broken)},
        )
