"""Weights of hidden layers that begin so small that nothing of the input is left.

Source: K. He et al., "Delving Deep into Rectifiers", 2015, on initialization that is too small in deep nets.
Cost: standard deviation of each weight.
Risk: heads begin small on purpose, and are left out; so are zeros (see zero-weights), loaded weights, and single layers
of a branch: the outputs must be small as well.
"""

from collections.abc import Iterator
from math import sqrt

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe, ParameterProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import fans, head_names, is_loaded, owner, told, weights_of
from .large_weights import usual_std

# The usual schemes are at most 6 times smaller than sqrt(2 / larger fan); 0.02 in a narrow transformer is 10 times.
_FACTOR = 1 / 40
# What such a layer gives of an input of about 1.
_SMALL_OUTPUT = 0.1
# One small layer may be meant, as at the end of a branch.
_PART = 0.25


@rule("small-weights", at="model", needs=["model"], explained_by=["zero-weights", "symmetric-weights"])
def small_weights(probe: Probe) -> Iterator[Finding]:
    """Find weights whose spread is far below every usual initialization, in layers with small outputs."""
    if probe.model is None:
        return
    layers = {layer.name: layer for layer in probe.model.layers}
    heads = head_names(probe.model)
    hidden = [it for it in weights_of(probe.model) if owner(it.name) not in heads]
    small = [it for it in hidden if it.trains and _is_small(it, layers.get(owner(it.name)))]
    small = [it for it in small if not is_loaded(probe, it)]
    if not small or len(small) < _PART * len(hidden):
        return
    names = [owner(it.name) or it.name for it in small]
    yield Finding(
        "warning",
        f"the weights of {told(names)} begin far too small: their standard deviation is {small[0].std:.2g} in "
        f"{names[0]!r}, where {usual_std(small[0]):.2g} is usual",
        "initialize by the number of inputs, as torch does by itself (nn.init.kaiming_normal_)",
        Where(layer=names[0]),
        {"layers": names[:8], "std": small[0].std, "usual": usual_std(small[0])},
    )


def _is_small(weight: ParameterProbe, layer: LayerProbe | None) -> bool:
    small = 0 < weight.std < _FACTOR * sqrt(2 / max(fans(weight)))
    return small and (layer is None or not layer.out_shape or layer.out_std < _SMALL_OUTPUT)
