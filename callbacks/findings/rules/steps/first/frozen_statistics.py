"""Normalization that trains and whose statistics do not follow.

Source: ``momentum=0``; a copy of the model that is trained in the place of the one that is validated.
Cost: the buffers before and after thirty steps.
Risk: layers that are kept in evaluation mode on purpose are listed as such, and are left out.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule

_FEWEST = 3


@rule("frozen-statistics", at="steps", needs=["steps"], explained_by=[
    "evaluation-mode", "norm-momentum", "no-running-stats", "unused-modules", "all-frozen",
])  # fmt: skip
def frozen_statistics(probe: Probe) -> Iterator[Finding]:
    """Find runs in which no running statistic moves though layers are in training mode."""
    steps = probe.steps
    if steps is None or steps.buffers_moved is not False or steps.modes or len(steps.steps) < _FEWEST:
        return
    if any(any(step.update.values()) for step in steps.steps):
        yield Finding(
            "warning",
            f"the running statistics of the normalization layers have not moved in {len(steps.steps)} steps, though "
            "weights have: validation normalizes by the initial ones",
            "set momentum to 0.1, and leave the layers in training mode while training",
            evidence={"steps": len(steps.steps)},
        )
