"""Sigmoids and tanhs that are at their ends for the whole first batch.

Source: X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010.
Cost: outputs of one forward pass.
Risk: an output whose bias begins at a small prior is at one end on purpose; so both ends are asked for.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import told

# Mean square of values of -1 to 1. For inputs of standard deviation 1 tanh gives 0.4, 3 gives 0.76, 10 gives 0.92.
_SATURATED = 0.9
_ONE_END = 0.9


@rule("saturated-units", at="model", needs=["model"], explained_by=["large-weights", "outputs-not-finite"])
def saturated_units(probe: Probe) -> Iterator[Finding]:
    """Find activations whose values are nearly all at both ends of their range."""
    layers = probe.model.layers if probe.model else ()
    found = [(layer, *_centred(layer)) for layer in layers if layer.kind in ("Sigmoid", "Tanh", "Hardtanh")]
    found = [(layer, mean, square) for layer, mean, square in found if square > _SATURATED and abs(mean) < _ONE_END]
    if not found:
        return
    names = [layer.name for layer, *_ in found]
    yield Finding(
        "warning",
        f"the outputs of {told(names)} are at the ends of {found[0][0].kind.lower()} from the first batch on "
        f"(mean square {found[0][2]:.2f} of at most 1), where there is next to no gradient",
        f"make the inputs of {names[0]!r} smaller: by the scale of images, by smaller weights, or by a normalization",
        Where(layer=names[0]),
        {"layers": names[:8], "mean_square": found[0][2]},
    )


def _centred(layer: LayerProbe) -> tuple[float, float]:
    """Return mean and mean square of outputs that lie between -1 and 1."""
    scale, shift = (2, 1) if layer.kind == "Sigmoid" else (1, 0)
    mean, std = scale * layer.out_mean - shift, scale * layer.out_std
    return mean, mean**2 + std**2
