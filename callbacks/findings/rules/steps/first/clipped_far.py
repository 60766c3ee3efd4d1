"""Gradients that are clipped by a large factor in each step.

Source: R. Pascanu et al., "On the difficulty of training recurrent neural networks", 2013: a limit is for exceptions.
Cost: the norm before clipping.
Risk: large gradients of the first steps that settle; so the smallest one of thirty steps counts as well. Optimizers
that divide by the size of the gradients make up for a clipping that is alike in all steps.
"""

from collections.abc import Iterator
from math import isfinite
from statistics import median

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

_ALL, _MIDDLE = 10.0, 20.0
# So much farther where it hardly matters.
_ADAPTIVE, _FARTHER = ("ada", "rms", "lion", "lamb", "rprop"), 100.0
_FEWEST = 5


@rule("clipped-far", at="steps", needs=["steps", "settings"], explained_by=[
    "group-rate-too-high",
    "tiny-clip", "large-weights", "exploding-signal", "target-scale", "summed-loss", "dominant-term", "unnormalized",
    "scale-0-255", "broadcast-shapes", "learning-rate-too-high", "gradients-not-zeroed",
])  # fmt: skip
def clipped_far(probe: Probe) -> Iterator[Finding]:
    """Compare the norm of the gradients with what they are clipped to."""
    limit = probe.settings.clip_grad_norm
    steps = probe.steps.steps if probe.steps is not None else ()
    norms = [step.grad_norm for step in steps if step.grad_norm is not None and isfinite(step.grad_norm)]
    if not limit or len(norms) < _FEWEST:
        return
    far = _FARTHER if any(one in probe.settings.optimizer.lower() for one in _ADAPTIVE) else 1.0
    if min(norms) > far * _ALL * limit and median(norms) > far * _MIDDLE * limit:
        yield Finding(
            "warning",
            f"clip_grad_norm {limit:g} cuts the gradients of every step far down: their norm is {median(norms):.3g}, "
            f"{median(norms) / limit:,.0f} times as large, and {min(norms):.3g} at the least",
            f"set clip_grad_norm to about {median(norms):.2g}, or leave it out",
            Where(field="clip_grad_norm"),
            {"limit": limit, "median": median(norms), "least": min(norms)},
        )
