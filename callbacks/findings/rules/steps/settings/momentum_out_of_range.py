"""Momentum that remembers hundreds of steps, or second moments that remember none.

Source: I. Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013 (0.9 to 0.99);
betas that are exchanged.
Cost: none.
Risk: published recipes: momentum up to 0.99, betas (0 to 0.95, 0.9 to 0.9999).
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

_MOST = 0.995
_LEAST_BETA2 = 0.85


@rule("momentum-out-of-range", at="model", needs=["settings"])
def momentum_out_of_range(probe: Probe) -> Iterator[Finding]:
    """Find groups whose momentum is 0.995 or more, or whose second beta is below 0.85."""
    name = probe.settings.optimizer
    for group in probe.settings.groups:
        beta = "the first beta" if group.beta2 is not None else "momentum"
        if group.momentum >= _MOST:
            steps = f"{1 / (1 - group.momentum):,.0f} steps" if group.momentum < 1 else "all steps"
            yield Finding(
                "warning",
                f"{beta} of {name} is {group.momentum:g}: each step is the sum of the gradients of {steps} before",
                "set it to 0.9",
                Where(field="momentum" if group.beta2 is None else "betas"),
                {"momentum": group.momentum},
            )
            return
        if group.beta2 is not None and 0 < group.beta2 < _LEAST_BETA2:
            yield Finding(
                "warning",
                f"the second beta of {name} is {group.beta2:g}: the size of gradients is taken of "
                f"{1 / (1 - group.beta2):.0f} steps, so that steps are noise",
                "set the betas to (0.9, 0.999)",
                Where(field="betas"),
                {"beta2": group.beta2},
            )
            return
