"""A softmax over the samples of the batch, or over the pixels, instead of over the classes.

Source: torch's ``dim`` of a softmax, whose default once depended on the number of axes; seen in projects without end.
Cost: sums over the outputs of one batch.
Risk: attention maps and heat maps are softmaxes over pixels on purpose: those axes count only before a loss over
classes. Contrastive losses take a softmax over samples: a criterion counts only where it takes one class per sample.
"""

from collections.abc import Iterator
from math import isclose, log

from ....probe.finding import Finding, Where
from ....probe.model_probe import OutputProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.trial_probe import TermTrial
from ..seen_terms import SeenTerm, is_softmax, with_outputs, with_trials
from .probabilities import are_log_probabilities, logs_sum_to_one, sums_to_one

_OVER_CLASSES = ("cross_entropy", "nll", "bce", "bce_logits", "focal", "dice", "jaccard")
_TOLERANCE = 5e-3
# Of fewer samples, sums over them are easily 1 by chance.
_FEWEST = 3
_AXES = {0: "the samples of the batch", 2: "the height", 3: "the width", 4: "the last axis of the volume"}


@rule("softmax-over-wrong-axis", at="model", needs=["model"])
def softmax_over_wrong_axis(probe: Probe) -> Iterator[Finding]:
    """Find outputs that sum to 1 over the batch or over pixels, and criteria that do the same."""
    for term, output in with_outputs(probe):
        axis = _wrong_axis(term, output)
        if axis is not None:
            where, classes = _place(axis, output.shape), term.classes
            yield _found(
                f"output {output.key!r} sums to 1 over {where} (axis {axis}) and not over its {classes} classes: the "
                "softmax is taken over the wrong axis",
                output.key, {"axis": axis},
            )  # fmt: skip
    for term, trial in with_trials(probe):
        own = _axis_of_loss(trial)
        if own is not None:
            yield _found(
                f"term {term.label!r} takes its softmax over {_place(own, trial.output_shape)} (axis {own}) and not "
                f"over the {term.classes} classes of output {term.output_key!r}",
                term.output_key or None, {"axis": own},
            )  # fmt: skip
        elif _is_over_samples(term, trial):
            samples, classes = term.samples, term.classes
            yield _found(
                f"term {term.label!r} takes its softmax over the {samples} samples of the batch and not over the "
                f"{classes} classes (equal outputs cost ln {samples} = {trial.blank:.3f}, not ln {classes} = "
                f"{log(classes):.3f})",
                term.output_key or None, {"blank": trial.blank, "expected": log(classes)},
            )  # fmt: skip


def _found(what: str, key: str | None, evidence: dict[str, object]) -> Finding:
    return Finding("error", what, "take the softmax over the classes, with dim=1", Where(key=key), evidence)


def _is_over_classes(trial: TermTrial) -> bool:
    """Whether each sample, or pixel, has one class as its target, by number."""
    return trial.right is not None and len(trial.output_shape) > 1 and not trial.target_dtype.startswith("float")


def _axis_of_loss(trial: TermTrial) -> int | None:
    """Return the axis of a softmax that a loss over classes takes; None where it is right, or not known."""
    shape, axes = trial.output_shape, trial.softmax_axes
    if not axes or 1 in axes or not _is_over_classes(trial) or shape == trial.target_shape:
        return None
    # Of a table of samples by samples, each may be compared with the others both ways.
    return axes[0] if axes[0] in _AXES and shape[1] > 1 and not (axes[0] == 0 and shape[0] == shape[1]) else None


def _is_over_samples(term: SeenTerm, trial: TermTrial) -> bool:
    tried = trial.blank is not None and _is_over_classes(trial) and len(trial.output_shape) == 2
    if not tried or term.criterion.kind or term.samples in (term.classes, 1) or not is_softmax(trial):
        return False
    return isclose(trial.blank or 0, log(term.samples), rel_tol=_TOLERANCE)


def _wrong_axis(term: SeenTerm, output: OutputProbe) -> int | None:
    if term.takes not in _OVER_CLASSES or term.classes < 2 or sums_to_one(output, 1) or are_log_probabilities(output):
        return None
    axes = [axis for axis in _AXES if axis < len(output.shape) and output.shape[axis] >= _FEWEST]
    return next((axis for axis in axes if sums_to_one(output, axis) or logs_sum_to_one(output, axis)), None)


def _place(axis: int, shape: tuple[int, ...]) -> str:
    return "the positions" if len(shape) == 3 and axis == 2 else _AXES[axis]
