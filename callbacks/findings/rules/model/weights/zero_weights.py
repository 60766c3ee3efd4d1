"""Layers whose weights begin at 0 and stay there, or most of a model at 0.

Source: the first fault of every course on initialization; AUTOTRAINER (X. Zhang et al., 2021) lists it.
Cost: smallest and largest value of each weight, and one backward pass that other rules need as well.
Risk: zeros are often meant: the last layer of a branch or of the model, LoRA, ControlNet, adaLN-zero, the scale of a
normalization. There the zeros get a gradient at the first step, or wait for another zero layer that does, and are the
smaller part of the layers; only zeros that get none while no other zero layer does, or more than half of all layers,
are told of.
"""

from collections.abc import Iterator, Sequence

from ....probe.finding import Finding, Where
from ....probe.model_probe import ParameterProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import owner, told, weights_of

# Fixup and the like put zeros into half of the layers of their branches.
_MOST = 0.5


@rule("zero-weights", at="model", needs=["model"], explained_by=["all-frozen"])
def zero_weights(probe: Probe) -> Iterator[Finding]:
    """Find layers that are 0 and get a gradient of 0, or that are most of the model."""
    if probe.model is None:
        return
    weights = weights_of(probe.model)
    zero = [it for it in weights if it.low == it.high == 0 and it.trains]
    most = len(zero) > _MOST * len(weights) and len(zero) > 1
    if zero and (most or _stuck(zero, known=probe.model.loss is not None)):
        yield _zeros(zero, len(weights), most)


def _stuck(zero: Sequence[ParameterProbe], known: bool) -> bool:
    return known and not any(it.grad_norm for it in zero)


def _zeros(zero: Sequence[ParameterProbe], weights: int, most: bool) -> Finding:
    names = [owner(it.name) or it.name for it in zero]
    why = ", so all its outputs are alike" if most else " and get a gradient of 0, so they stay there"
    return Finding(
        "error" if most else "warning",
        f"all weights of {told(names)} begin at 0{why}",
        "initialize the weights at random, as torch does by itself; zeros are for biases",
        Where(layer=names[0]),
        {"layers": names[:8], "zero": len(zero), "of": weights},
    )
