"""A loss from which no gradient comes back.

Source: a criterion that detaches its input, goes through NumPy, or takes an argmax.
Cost: none beyond the backward pass.
Risk: a whole model whose gradients are 0 by its weights; the rules on weights explain it.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule


@rule("loss-without-gradient", at="model", needs=["model"], explained_by=[
    "all-frozen", "output-without-gradient", "zero-weights", "constant-loss", "loss-not-finite", "dead-units",
    "outputs-not-finite",
])  # fmt: skip
def loss_without_gradient(probe: Probe) -> Iterator[Finding]:
    """Find models that train, of which the loss reaches no parameter."""
    model = probe.model
    trained = [it for it in model.parameters if it.trains and it.optimized] if model is not None else []
    if model is None or model.loss is None or not trained or any(it.grad_norm for it in trained):
        return
    if any(output.requires_grad for output in model.outputs.values()):
        yield Finding(
            "error",
            f"the loss ({model.loss:.3g}) gives none of the {len(trained)} parameters a gradient, though the outputs "
            "would: the criterion cuts it off",
            "take detach(), argmax(), item() and NumPy out of the criterion",
            evidence={"loss": model.loss, "parameters": len(trained)},
        )
