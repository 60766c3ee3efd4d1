"""Units that are 0 for every sample of the first batch, far more of them than an initialization gives.

Source: L. Lu et al., "Dying ReLU and Initialization", 2020; AUTOTRAINER (X. Zhang et al., 2021) and UMLAUT look for it.
Cost: outputs of one forward pass.
Risk: at random weights up to half of the units of a ReLU are off for a whole batch, as samples are alike in deep
layers, and by chance all of a narrow layer; so narrow layers are left out and nine tenths are asked for. What follows
layers that begin at 0 is off on purpose; so only activations, and what pools them, are looked at, if they are given
other numbers than 0.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ..parts import is_loaded, owner, told

# Half of the units are off in the worst healthy case; with 16 of them 15 are by chance once in 4,000 layers.
_DEAD = 0.9
_WIDE = 16
# A layer of which next to all outputs are below 0 and that gets no gradient at all feeds a ReLU.
_BELOW = 3.0
_CUT = ("ReLU", "ReLU6", "Hardtanh", "Threshold")


@rule("dead-units", at="model", needs=["model"], explained_by=[
    "zero-weights", "symmetric-weights", "weights-not-finite", "outputs-not-finite", "heavy-dropout",
])  # fmt: skip
def dead_units(probe: Probe) -> Iterator[Finding]:
    """Find activations that are off for the whole first batch."""
    if probe.model is None:
        return
    before = [None, *probe.model.layers]
    dead = [layer for layer, prior in zip(probe.model.layers, before, strict=False) if _is_dead(layer, prior)]
    loaded = {owner(it.name) for it in probe.model.parameters if is_loaded(probe, it)}
    below = [layer for layer in probe.model.layers if _is_below(layer) and layer.name not in loaded]
    if dead:
        yield _dead(dead)
    elif below:
        yield _below(below)


def _is_dead(layer: LayerProbe, prior: LayerProbe | None) -> bool:
    # What gets nothing but zeros gives nothing else: as in a branch that begins at 0.
    if prior is not None and prior.out_shape and prior.out_largest == 0:
        return False
    cuts = layer.kind in _CUT or "Pool" in layer.kind
    return cuts and _width(layer) >= _WIDE and layer.dead >= _DEAD


def _is_below(layer: LayerProbe) -> bool:
    negative = layer.out_mean + _BELOW * layer.out_std < 0 and "Norm" not in layer.kind
    return negative and layer.grad_std == 0 and _width(layer) >= _WIDE


def _width(layer: LayerProbe) -> int:
    """Return how many channels there are; of sequences they stand first or last."""
    shape = layer.out_shape
    return min(shape[1], shape[-1]) if len(shape) == 3 else shape[1] if len(shape) > 1 else 0


def _dead(layers: list[LayerProbe]) -> Finding:
    names = [layer.name for layer in layers]
    whole = any(layer.dead == 1 for layer in layers)
    part = "all" if layers[0].dead == 1 else share(layers[0].dead, 1)
    return Finding(
        "error" if whole else "warning",
        f"{part} of the units of {told(names)} are dead: 0 for every sample of the first batch, so they cannot learn",
        f"look at the bias and the weights of what comes before {names[0]!r}, and at the scale of the input",
        Where(layer=names[0]),
        {"layers": names[:8], "dead": [layer.dead for layer in layers[:8]], "expected": "at most 0.5"},
    )


def _below(layers: list[LayerProbe]) -> Finding:
    names = [layer.name for layer in layers]
    return Finding(
        "warning",
        f"the outputs of {told(names)} are below 0 (mean {layers[0].out_mean:.3g}) and get no gradient, "
        "so the units after it are dead",
        f"look at the bias and the weights of {names[0]!r}, and at the scale of the input",
        Where(layer=names[0]),
        {"layers": names[:8], "mean": layers[0].out_mean, "std": layers[0].out_std},
    )
