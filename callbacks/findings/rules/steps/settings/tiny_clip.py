"""Gradients that are clipped to next to nothing.

Source: "exploding gradients" are clipped at norms of 0.1 to 10 (R. Pascanu et al., 2013); 1e-4 is a typing error.
Cost: none.
Risk: none that is known of norms below 1e-3.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule

_NORM, _VALUE = 1e-3, 1e-5


@rule("tiny-clip", at="model", needs=["settings"])
def tiny_clip(probe: Probe) -> Iterator[Finding]:
    """Find limits of gradients that no gradient of a training lies below."""
    norm, value = probe.settings.clip_grad_norm, probe.settings.clip_grad_value
    limits = (("clip_grad_norm", norm, _NORM, 1.0), ("clip_grad_value", value, _VALUE, 0.5))
    for field, limit, least, usual in limits:
        if limit is not None and limit < least:
            yield Finding(
                "warning",
                f"{field} is {limit:g}: all gradients are cut to next to nothing, in every step",
                f"set {field} to {usual:g} or leave it out",
                Where(field=field),
                {field: limit},
            )
