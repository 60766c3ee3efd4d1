"""Outputs that grow from layer to layer, or are large from the first one on.

Source: B. Hanin and D. Rolnick, "How to Start Training", 2018; AUTOTRAINER (X. Zhang et al., 2021) looks for it.
Cost: outputs of one forward pass.
Risk: residual nets without normalization grow by a few times per block; thousandfold growth within layers with weights
is not reached by any usual initialization. Only layers with weights count, as a scale may be meant.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import owner, weights_of

# Residual nets of 50 blocks without normalization reach 100 at random weights.
_EXPLODED = 1000.0
_SMALLEST = 1e-3


@rule("exploding-signal", at="model", needs=["model"], explained_by=[
    "large-weights", "symmetric-weights", "outputs-not-finite", "weights-not-finite",
])  # fmt: skip
def exploding_signal(probe: Probe) -> Iterator[Finding]:
    """Find the layer where the outputs have grown a thousandfold since the first layers."""
    if probe.model is None:
        return
    owners = {owner(it.name) for it in weights_of(probe.model)}
    layers = [layer for layer in probe.model.layers if layer.name in owners and layer.out_shape]
    if len(layers) < 3:
        return
    first = max(layers[0].out_std, layers[1].out_std, _SMALLEST)
    large = next((it for it in layers if it.out_std > _EXPLODED * max(first, 1)), None)
    if large is not None:
        yield Finding(
            "warning",
            f"the signal explodes: the standard deviation of outputs grows from {first:.2g} in the first layers to "
            f"{large.out_std:.2g} in {large.name!r}",
            "initialize the weights by the number of inputs (nn.init.kaiming_normal_), or add normalization",
            Where(layer=large.name),
            {"first": first, "std": large.out_std},
        )
