"""A whole model in training mode while it is validated, or functions of dropout that know no mode.

Source: ``model.train()`` at the start of every batch, in a training loop of one's own; N. Humbatova et al., 2020.
Cost: the mode of the model, and its calls of dropout, in one validation batch.
Risk: dropout that stays on to tell how sure a model is (Monte Carlo dropout) is turned on layer by layer, and is no
fault; a model without BatchNorm and dropout does the same in both modes.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ..parts import batch_norms, told


@rule("training-in-validation", at="model", needs=["model"])
def training_in_validation(probe: Probe) -> Iterator[Finding]:
    """Find models with BatchNorm or dropout that train in a validation step, and dropout that is always on."""
    model = probe.model
    if model is None:
        return
    if not model.trains_in_valid:
        yield from _functions(probe)
        return
    drops = [layer for layer in model.layers if "Dropout" in layer.kind and (layer.options.get("p") or 0) > 0]
    norms = batch_norms(model)
    names = [layer.name for layer in (*norms, *drops)]
    if names:
        learns = "normalization takes the statistics of validation's batches, and learns them"
        yield Finding(
            "warning",
            f"the model is in training mode on batches of validation, with {told(names)}: "
            + (learns if norms else "dropout makes predictions worse than they are"),
            "leave out model.train() in validation: runners set the mode at the start of each loader",
            Where(loader=probe.valid.key if probe.valid is not None else None, layer=names[0]),
            {"layers": names[:8]},
        )


def _functions(probe: Probe) -> Iterator[Finding]:
    """Find functions of dropout that are not told the mode."""
    found = probe.model.valid_dropouts if probe.model is not None else {}
    if found:
        place = next(iter(found))
        yield Finding(
            "warning",
            f"dropout in {place} drops {share(found[place], 1)} of the values in evaluation mode too: validation is "
            "worse than the model, and differs from run to run",
            "write F.dropout(x, p, training=self.training), or use nn.Dropout",
            Where(loader=probe.valid.key if probe.valid is not None else None),
            {"places": [*found][:8]},
        )
