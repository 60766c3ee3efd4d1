"""Outputs that hold NaN or infinity for the first batch.

Source: division by zero, the logarithm or root of what is not positive, overflow of float16 in ``forward``.
Cost: none beyond the first forward pass.
Risk: masked outputs of minus infinity are meant in attention and in some losses; those that hold NaN or no finite value
are told of, and infinity alone is a warning.
"""

from collections.abc import Iterator
from math import isfinite, isnan

from ....probe.finding import Finding, Where
from ....probe.model_probe import ModelProbe
from ....probe.probe import Probe
from ....probe.rule import rule


@rule("outputs-not-finite", at="model", needs=["model"], explained_by=["weights-not-finite"])
def outputs_not_finite(probe: Probe) -> Iterator[Finding]:
    """Find outputs with NaN or infinity, and the first layer that gives them."""
    if probe.model is None:
        return
    for key, output in probe.model.outputs.items():
        if isfinite(output.low) and isfinite(output.high):
            continue
        nan = isnan(output.low) or isnan(output.high)
        first = _first(probe.model)
        yield Finding(
            "error" if nan else "warning",
            f"output {key!r} holds {'NaN' if nan else 'infinity'} on the first batch"
            + (f", first in layer {first!r}" if first else ""),
            f"look at {first!r} and its inputs" if first else "look for division by 0, log, sqrt and exp in forward()",
            Where(key=key, layer=first),
            {"low": output.low, "high": output.high},
        )


def _first(model: ModelProbe) -> str | None:
    broken = (
        layer.name for layer in model.layers if layer.out_shape and not isfinite(layer.out_largest + layer.out_std)
    )
    return next(broken, None)
