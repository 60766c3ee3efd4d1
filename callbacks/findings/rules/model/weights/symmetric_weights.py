"""Layers whose outputs all begin with the same weights.

Source: I. Goodfellow et al., "Deep Learning", 2016, 8.4: units with equal weights and inputs must be told apart at the
start, or they stay alike.
Cost: rows of each weight are compared.
Risk: one layer with equal rows per channel may be meant (smoothing filters); depthwise filters see different inputs and
are left out, as are heads, whose rows get different gradients, and weights that are 0 (see zero-weights).
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import ParameterProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import head_names, is_loaded, owner, told, weights_of


@rule("symmetric-weights", at="model", needs=["model"])
def symmetric_weights(probe: Probe) -> Iterator[Finding]:
    """Find weights of hidden layers with alike rows."""
    if probe.model is None:
        return
    heads = head_names(probe.model)
    weights = [it for it in weights_of(probe.model) if owner(it.name) not in heads]
    alike = [it for it in weights if it.trains and _alike(it, it is weights[0]) and not is_loaded(probe, it)]
    if not alike:
        return
    names = [owner(it.name) or it.name for it in alike]
    first = alike[0]
    value = f", {first.low:.3g} everywhere" if first.low == first.high else ""
    yield Finding(
        "error" if len(alike) == len(weights) else "warning",
        f"all outputs of {told(names)} begin with the same weights{value}, so they learn the same thing",
        "initialize the weights at random, as torch does by itself (nn.init.kaiming_normal_)",
        Where(layer=names[0]),
        {"layers": names[:8], "of": len(weights)},
    )


def _alike(weight: ParameterProbe, first: bool) -> bool:
    blank = weight.low == weight.high == 0
    depthwise = weight.shape[1] == 1 and len(weight.shape) > 2 and not first
    return weight.alike_rows and weight.shape[0] > 1 and not blank and not depthwise
