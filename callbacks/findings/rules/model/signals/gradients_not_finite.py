"""Gradients that are NaN or infinite on the first batch, though the loss is finite.

Source: the derivative of a root, a norm or a standard deviation at 0 is infinite, and infinity times 0 is NaN, a
standing question in torch's forum; DeepLocalize (M. Wardat et al., 2021).
Cost: norms of the gradients of one backward pass; another pass where they are not finite.
Risk: none that is known: such a step breaks the weights, or is left out.
"""

from collections.abc import Iterator
from math import isfinite

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import modules_of, told


@rule("gradients-not-finite", at="model", needs=["model"], explained_by=[
    "outputs-not-finite", "weights-not-finite", "loss-not-finite", "non-finite-images", "logits-for-probabilities",
    "large-weights", "exploding-signal",
])  # fmt: skip
def gradients_not_finite(probe: Probe) -> Iterator[Finding]:
    """Find parameters with such gradients, and the operation that makes them."""
    model = probe.model
    if model is None or model.loss is None or not isfinite(model.loss):
        return
    broken = [it.name for it in model.parameters if it.grad_norm is not None and not isfinite(it.grad_norm)]
    if not broken:
        return
    modules = modules_of(broken, [it.name for it in model.parameters if it.name not in {*broken}])
    by = f" by {model.broken_by}" if model.broken_by else ""
    yield Finding(
        "warning",
        f"the loss of the first batch is finite ({model.loss:.3g}), but the gradient of {told(modules, 'module')} "
        f"becomes NaN or infinite{by}",
        "add a small number below the root, the norm or the logarithm, as in sqrt(x + 1e-8)",
        Where(layer=modules[0]),
        {"parameters": broken[:8], "by": model.broken_by},
    )
