"""An output that is the same for all samples.

Source: A. Karpathy, "A Recipe for Training Neural Networks", 2019, compares with an input-independent baseline.
Cost: one forward pass in evaluation mode.
Risk: a head whose weights begin at 0 gives the same for all samples at first, on purpose; it is left out. Samples that
are alike give outputs that are alike (see one-item).
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import ModelProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import weights_of


@rule("constant-output", at="model", needs=["model"], explained_by=[
    "one-item", "zero-weights", "symmetric-weights", "small-weights", "dead-units", "saturated-units",
    "vanishing-signal", "outputs-not-finite", "weights-not-finite",
    "norm-momentum",
])  # fmt: skip
def constant_output(probe: Probe) -> Iterator[Finding]:
    """Find outputs that do not depend on the sample."""
    if probe.model is None or probe.model.batch_size < 2 or _begins_at_zero(probe.model):
        return
    for key, constant in probe.model.constant.items():
        output = probe.model.outputs.get(key)
        if constant and output is not None and output.has_loss:
            yield Finding(
                "error",
                f"output {key!r} is the same for all {probe.model.batch_size} samples of the first batch: it does not "
                "depend on the input",
                "see whether forward() uses its input, and whether the samples differ",
                Where(key=key),
                {"low": output.low, "high": output.high},
            )


def _begins_at_zero(model: ModelProbe) -> bool:
    return any(it.low == it.high == 0 for it in weights_of(model))
