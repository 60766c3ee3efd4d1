"""Weights that begin far larger than the number of inputs allows.

Source: K. He et al., "Delving Deep into Rectifiers", 2015: a standard deviation of sqrt(2 / fan) keeps the size of a
signal; ``torch.randn`` and ``normal_(std=1)`` are 5 to 50 times that.
Cost: standard deviation of each weight.
Risk: layers that scale their weights on the way (equalized learning rate, weight standardization) hold large numbers;
their outputs are not large, and are asked for. Loaded weights and embeddings are left out.
"""

from collections.abc import Iterator
from math import sqrt

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe, ParameterProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import fans, is_loaded, owner, told, weights_of

# The usual schemes differ by a factor of 6 among each other, the largest of them is sqrt(2 / smaller fan).
_FACTOR = 5.0
# A layer with weights as large as that gives at least this for an input of about 1.
_LARGE_OUTPUT = 2.0


@rule("large-weights", at="model", needs=["model"])
def large_weights(probe: Probe) -> Iterator[Finding]:
    """Find weights whose spread is far above every usual initialization, in layers with large outputs."""
    if probe.model is None:
        return
    layers = {layer.name: layer for layer in probe.model.layers}
    large = [it for it in weights_of(probe.model) if it.trains and _is_large(it, layers.get(owner(it.name)))]
    large = [it for it in large if not is_loaded(probe, it)]
    if not large:
        return
    names = [owner(it.name) or it.name for it in large]
    worst = max(large, key=lambda it: it.std / usual_std(it))
    yield Finding(
        "warning",
        f"the weights of {told(names)} begin far too large: their standard deviation is {worst.std:.3g} in "
        f"{(owner(worst.name) or worst.name)!r}, where {usual_std(worst):.2g} is usual",
        "initialize by the number of inputs, as torch does by itself (nn.init.kaiming_normal_)",
        Where(layer=names[0]),
        {"layers": names[:8], "std": worst.std, "usual": usual_std(worst)},
    )


def usual_std(weight: ParameterProbe) -> float:
    """Return the standard deviation of He's initialization, by the number of inputs."""
    return sqrt(2 / fans(weight)[0])


def _is_large(weight: ParameterProbe, layer: LayerProbe | None) -> bool:
    large = weight.std > _FACTOR * sqrt(2 / min(fans(weight)))
    return large and (layer is None or not layer.out_shape or layer.out_std > _LARGE_OUTPUT)
