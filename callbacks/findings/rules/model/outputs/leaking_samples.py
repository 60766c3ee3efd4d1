"""Samples of a batch that influence each other in evaluation mode.

Source: A. Karpathy, "A Recipe for Training Neural Networks", 2019, "use backprop to chart dependencies": the gradient
of one sample's output must be 0 for all other inputs.
Cost: one forward and one backward pass in evaluation mode.
Risk: outputs of [N, N], as of a contrastive model, compare samples on purpose, and so does a layer of minibatch
statistics in a discriminator; both are left out. Normalization by running statistics is no leak in evaluation mode.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe, ModelProbe, OutputProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share

# Without a leak the share is exactly 0.
_LEAK = 1e-4
_OVER_SAMPLES = {"Softmax", "LogSoftmax", "Softmin"}


@rule("leaking-samples", at="model", needs=["model"], explained_by=[
    "no-running-stats", "outputs-not-finite", "softmax-over-wrong-axis",
    "unregistered-modules",  # whose BatchNorm never changes to evaluation mode
])  # fmt: skip
def leaking_samples(probe: Probe) -> Iterator[Finding]:
    """Find outputs whose gradient goes to the inputs of other samples, and the layer that mixes them."""
    if probe.model is None or any("minibatch" in layer.kind.lower() for layer in probe.model.layers):
        return
    for key, leak in probe.model.leaks.items():
        output = probe.model.outputs.get(key)
        if leak is None or leak < _LEAK or output is None or not _of_samples(output, probe.model.batch_size):
            continue
        culprit = _culprit(probe.model)
        yield Finding(
            "error",
            f"the samples of a batch influence each other: {share(leak, 1)} of the gradient of one sample's output "
            f"{key!r} goes to other samples" + (f"; {culprit}" if culprit else ""),
            "look for operations over axis 0: attention without batch_first=True, softmax or normalization over dim=0, "
            "a wrong view or transpose",
            Where(key=key, layer=culprit.split("'")[1] if culprit else None),
            {"share": leak, "expected": 0},
        )


def _of_samples(output: OutputProbe, batch_size: int) -> bool:
    return output.shape[:1] == (batch_size,) and output.shape != (batch_size, batch_size)


def _culprit(model: ModelProbe) -> str:
    """Return which layer works over the batch, as far as its settings tell."""
    return next((text for text in map(_suspicion, model.layers) if text), "")


def _suspicion(layer: LayerProbe) -> str:
    if layer.kind in _OVER_SAMPLES and layer.options.get("dim") == 0:
        return f"layer {layer.name!r} is a {layer.kind} over dim 0, the batch"
    if layer.options.get("batch_first") is False:
        return f"layer {layer.name!r} ({layer.kind}) takes axis 1 for the batch (batch_first is False)"
    return ""
