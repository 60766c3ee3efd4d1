"""Gradients that are still there when the next step begins.

Source: a missing ``optimizer.zero_grad()``, the first fault that comes to mind with torch.
Cost: a look at the gradients before the first backward pass of each step.
Risk: accumulation on purpose ends with a step and zeros; what is left after that is no accumulation.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule

_MOST = 0.5
_FEWEST = 3


@rule("gradients-not-zeroed", at="steps", needs=["steps"])
def gradients_not_zeroed(probe: Probe) -> Iterator[Finding]:
    """Find runs in which half of the steps begin with the gradients of the step before."""
    # Before the first step nothing can be left.
    later = probe.steps.steps[1:] if probe.steps is not None else ()
    left = sum(step.not_zeroed for step in later)
    if len(later) >= _FEWEST and left > _MOST * len(later):
        yield Finding(
            "warning",
            f"gradients are not set to zero between steps: in {left} of {len(later)} steps those of the steps before "
            "were still there and are added up",
            "call optimizer.zero_grad() after each step",
            evidence={"steps": len(later), "left": left},
        )
