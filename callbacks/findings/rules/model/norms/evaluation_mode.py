"""Layers that are in evaluation mode in training steps.

Source: ``model.eval()`` in the training loop, or never ``model.train()`` after validation, in N. Humbatova et al.,
"Taxonomy of Real Faults in Deep Learning Systems", 2020.
Cost: modes of modules are read.
Risk: pretrained or frozen normalization is put into evaluation mode on purpose, and is left out; a model without
BatchNorm and dropout does the same in both modes.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.model_probe import LayerProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..parts import batch_norms, is_loaded, owner, told, verb


@rule("evaluation-mode", at="model", needs=["model"])
def evaluation_mode(probe: Probe) -> Iterator[Finding]:
    """Find BatchNorm and dropout in evaluation mode, of the whole model or of layers that train."""
    if probe.model is None:
        return
    drops = [layer for layer in probe.model.layers if "Dropout" in layer.kind and (layer.options.get("p") or 0) > 0]
    norms = [it for it in batch_norms(probe.model) if it.options.get("track_running_stats", True)]
    if probe.model.trains_in_eval and (norms or drops):
        yield _in_evaluation([*norms, *drops], "the whole model is left in evaluation mode: ")
        return
    learning = {owner(it.name) for it in probe.model.parameters if it.trains and not is_loaded(probe, it)}
    still = [layer for layer in norms if not layer.training and layer.name in learning]
    if still:
        yield _in_evaluation(still, "")


def _in_evaluation(layers: list[LayerProbe], whole: str) -> Finding:
    names = [layer.name for layer in layers]
    norms = any("BatchNorm" in layer.kind for layer in layers)
    effect = "running statistics never move" if norms else "nothing is dropped"
    return Finding(
        "warning",
        f"{whole}{told(names)} {verb(names, 'is', 'are')} in evaluation mode in training steps: {effect}",
        "call model.train() before the training steps, after every model.eval()",
        Where(layer=names[0]),
        {"layers": names[:8], "count": len(names)},
    )
