"""An output with a loss through which nothing can be trained.

Source: ``torch.no_grad()`` around the model, ``detach``, ``argmax`` or NumPy in front of the loss.
Cost: none beyond the first forward pass.
Risk: several terms where one is only to be watched; it is a warning then.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule


@rule("output-without-gradient", at="model", needs=["model"], explained_by=["all-frozen"])
def output_without_gradient(probe: Probe) -> Iterator[Finding]:
    """Find outputs that a loss takes and that do not require a gradient."""
    outputs = probe.model.outputs if probe.model else {}
    trained = {key: output for key, output in outputs.items() if output.has_loss}
    cut = [key for key, output in trained.items() if not output.requires_grad]
    for key in cut:
        yield Finding(
            "error" if len(cut) == len(trained) else "warning",
            f"output {key!r} is cut off from the model (requires_grad is False): its loss trains nothing",
            "remove no_grad(), detach(), argmax(), .data or numpy() from the end of forward()",
            Where(key=key),
            {"dtype": outputs[key].dtype},
        )
