"""A softmax over the samples of the batch, or over the pixels, instead of over the classes.

Source: torch's ``dim`` of a softmax, whose default once depended on the number of axes; seen in projects without end.
Cost: sums over the outputs of one batch.
Risk: attention maps and heat maps are softmaxes over pixels on purpose: those axes count only before a loss over
classes. Contrastive losses take a softmax over samples: a criterion counts only where it takes one class per sample.
"""

from collections.abc import Iterator
from math import isclose, log

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.model_probe import OutputProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import SeenTerm, is_softmax, with_outputs, with_trials
from .probabilities import are_log_probabilities, sums_to_one

_OVER_CLASSES = ("cross_entropy", "nll", "bce", "bce_logits", "focal", "dice", "jaccard")
_TOLERANCE = 5e-3
# Of fewer samples, sums over them are easily 1 by chance.
_FEWEST = 3
_AXES = {0: "the samples of the batch", 2: "the rows of pixels", 3: "the columns of pixels"}


@rule("softmax-over-wrong-axis", at="model", needs=["model"])
def softmax_over_wrong_axis(probe: Probe) -> Iterator[Finding]:
    """Find outputs that sum to 1 over the batch or over pixels, and criteria that do the same."""
    for term, output in with_outputs(probe):
        axis = _wrong_axis(term, output)
        if axis is not None:
            yield Finding(
                "error",
                f"output {output.key!r} sums to 1 over {_AXES[axis]} (axis {axis}) and not over its {term.classes} "
                "classes: the softmax is taken over the wrong axis",
                "take the softmax over the classes, with dim=1",
                Where(key=output.key),
                {"axis": axis},
            )
    for term, trial in with_trials(probe):
        samples, classes = term.samples, term.classes
        tried = trial.blank is not None and trial.right is not None and len(trial.output_shape) == 2
        if not tried or term.criterion.kind or samples in (classes, 1) or not is_softmax(trial):
            continue
        if isclose(trial.blank or 0, log(samples), rel_tol=_TOLERANCE) and not trial.target_dtype.startswith("float"):
            yield Finding(
                "error",
                f"term {term.label!r} takes its softmax over the {samples} samples of the batch and not over the "
                f"{classes} classes (equal outputs cost ln {samples} = {trial.blank:.3f}, not ln {classes} = "
                f"{log(classes):.3f})",
                "take the softmax over the classes, with dim=1",
                Where(key=term.output_key or None),
                {"blank": trial.blank, "expected": log(classes)},
            )


def _wrong_axis(term: SeenTerm, output: OutputProbe) -> int | None:
    if term.kind not in _OVER_CLASSES or term.classes < 2 or sums_to_one(output, 1) or are_log_probabilities(output):
        return None
    axes = [axis for axis in _AXES if axis < len(output.shape) and output.shape[axis] >= _FEWEST]
    for axis in axes:
        if sums_to_one(output, axis) or (axis == 0 and _logs_over_samples(output)):
            return axis
    return None


def _logs_over_samples(output: OutputProbe) -> bool:
    values = output.values
    if values is None or values.shape != output.shape or output.high > 0:
        return False
    return bool((np.abs(np.exp(values.astype(np.float64)).sum(0) - 1) < _TOLERANCE).all())
