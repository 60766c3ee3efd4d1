"""Gradients, or signals, that are next to nothing in all of the first, or last, layers.

Source: X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010;
DeepLocalize (M. Wardat et al., 2021) and AUTOTRAINER (X. Zhang et al., 2021) look for it.
Cost: norms of gradients of one backward pass, outputs of one forward pass.
Risk: branches that begin small on purpose (LayerScale, ReZero, zero-initialized residual) have tiny gradients while
their surroundings have not; so it is the largest of the first three layers that counts, and models with LayerScale are
left out, as are heads, which may begin next to 0. Gradients of exactly 0 have
other causes (dead-units, zero-weights, a head that begins at 0), and are left out. Gradients are taken relative to the
weights, as the step is.
"""

from collections.abc import Iterator, Sequence
from math import prod

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe, ModelProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import head_names, owner, weights_of

# Of 60 usual nets at random weights the smallest is 2e-3, with 12 layers of ReLU and no normalization 1.4e-3; eight
# layers of sigmoids are at 4e-4, twelve at 2e-7.
_VANISHED = 7e-4
_SIGNAL_VANISHED = 1e-5
_FIRST = 3
_DEEP = 4
# LayerScale begins at 1e-5 or 1e-6 in deep nets, and at 1e-4 or 0.1 in others.
_SMALL_SCALE = 0.01


@rule("vanishing-signal", at="model", needs=["model"], explained_by=[
    "all-frozen", "detached-branch", "zero-weights", "small-weights", "large-weights", "symmetric-weights",
    "dead-units", "saturated-units", "outputs-not-finite", "weights-not-finite",
])  # fmt: skip
def vanishing_signal(probe: Probe) -> Iterator[Finding]:
    """Compare the first layers with those before the output."""
    if probe.model is None:
        return
    yield from _gradient(probe.model)
    yield from _signal([it for it in _with_weights(probe.model) if it.out_shape])


def _gradient_sizes(model: ModelProbe) -> list[tuple[str, float]]:
    """Return the gradient of each layer but heads relative to its weights; heads may begin next to 0."""
    heads = head_names(model)
    weights = [it for it in weights_of(model) if it.trains and it.grad_norm is not None and it.norm > 0]
    sizes = [(owner(it.name) or it.name, (it.grad_norm or 0.0) / it.norm) for it in weights]
    return [(name, value) for name, value in sizes if name not in heads]


def _scales_down(model: ModelProbe) -> bool:
    """Whether a learned scale begins next to 0, as LayerScale does."""
    vectors = [it for it in model.parameters if max(it.shape, default=1) == prod(it.shape) > 1]
    return any(0 < it.low == it.high <= _SMALL_SCALE for it in vectors if it.trains)


def _gradient(model: ModelProbe) -> Iterator[Finding]:
    sizes = _gradient_sizes(model)
    if len(sizes) < _DEEP or _scales_down(model):
        return
    largest = max(value for _, value in sizes)
    first = max(value for _, value in sizes[:_FIRST])
    if not 0 < first < _VANISHED * largest:
        return
    last = max(index for index in range(len(sizes)) if max(it for _, it in sizes[: index + 1]) < _VANISHED * largest)
    name = sizes[last][0]
    yield Finding(
        "warning",
        f"the gradient vanishes on its way back: in the layers up to {name!r} it is at most {first / largest:.0e} "
        "of the largest one, relative to the weights, so these do not train",
        "use ReLU in the place of sigmoid or tanh, normalization, residual connections, or fewer layers",
        Where(layer=name),
        {"share": first / largest, "expected": _VANISHED, "layers": last + 1},
    )


def _with_weights(model: ModelProbe) -> list[LayerProbe]:
    owners = {owner(it.name) for it in weights_of(model)}
    return [layer for layer in model.layers if layer.name in owners]


def _signal(layers: Sequence[LayerProbe]) -> Iterator[Finding]:
    if len(layers) < _DEEP or max(it.out_std for it in layers[-_FIRST:]) == 0:
        return
    largest = max(it.out_std for it in layers)
    if max(it.out_std for it in layers[-_FIRST:]) >= _SIGNAL_VANISHED * largest:
        return
    where = next(
        index for index in range(len(layers)) if max(it.out_std for it in layers[index:]) < _SIGNAL_VANISHED * largest
    )
    name, std = layers[where].name, layers[where].out_std
    yield Finding(
        "warning",
        f"the signal vanishes: from layer {name!r} on the standard deviation of outputs is {std:.0e} at most, "
        f"{largest:.2g} before",
        "initialize the weights by the number of inputs (nn.init.kaiming_normal_), or add normalization",
        Where(layer=name),
        {"std": std, "largest": largest},
    )
