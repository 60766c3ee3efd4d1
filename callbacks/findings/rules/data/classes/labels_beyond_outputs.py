"""Labels for which the model has no output.

Source: "wrong number of outputs" of N. Humbatova et al., 2020.
Cost: the largest label against the shape of the output.
Risk: outputs that are no classes; only the output that a cross-entropy takes counts.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ...class_counts import has_classes
from ...outside import labels_beyond


@rule("labels-beyond-outputs", at="model", needs=("loaders", "model"), explained_by=["labels-outside", "label-base"])
def labels_beyond_outputs(probe: Probe) -> Iterator[Finding]:
    """Find labels from the number of outputs on, of the one output that a cross-entropy takes."""
    outputs = probe.model.outputs if probe.model is not None else {}
    terms = [term for term in probe.settings.terms if term.criterion.kind in ("cross_entropy", "nll", "focal")]
    target_key = probe.train.target_key if probe.train is not None else None
    terms = [term for term in terms if term.target == target_key and term.output in outputs]
    if terms and has_classes(probe.settings):
        shape = outputs[terms[0].output].shape
        if len(shape) == 2 and shape[1] > 1:
            yield from labels_beyond(probe, shape[1], f"the model has outputs for 0 to {shape[1] - 1}")
