"""A loss that is the sum over the batch, not its mean.

Source: torch's ``reduction="sum"``; gradients then grow with the batch size, and so does the best learning rate.
Cost: two calls of the criterion with half of the batch.
Risk: sums on purpose: a weight of the term that makes up for it is taken into account. Adam does not mind the scale of
a loss that stands alone, and autoencoders sum over pixels by custom: without classes it is a note there.
"""

from collections.abc import Iterator
from math import isclose

from ....probe.finding import Finding, Severity, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.trial_probe import TermTrial
from ..seen_terms import SeenTerm, with_trials

_OF_CLASSES = ("cross_entropy", "nll", "bce_logits", "bce", "focal")
# In smaller batches the halves of another loss may add up to the whole by chance, and a sum does little harm.
_FEWEST = 8
_TOLERANCE = 1e-3
# A weight that leaves less than this factor has made up for the sum.
_MADE_UP = 4


@rule("summed-loss", at="model", needs=["trial"])
def summed_loss(probe: Probe) -> Iterator[Finding]:
    """Find terms whose values on two halves of the batch add up to the value on the whole."""
    scale_free = any(name in probe.settings.optimizer for name in ("Adam", "Lion", "RMSprop", "Adagrad"))
    for term, trial in with_trials(probe):
        if term.samples < _FEWEST or not _sums(term, trial) or abs(term.weight) * term.samples < _MADE_UP:
            continue
        severity: Severity = "note" if scale_free and term.kind not in _OF_CLASSES else "warning"
        mean = (trial.actual or 0) / term.samples
        yield Finding(
            severity,
            f"term {term.label!r} sums over the {term.samples} samples of the batch instead of taking their mean "
            f"(it begins at {trial.actual:.4g}, {mean:.3g} per sample): the gradients grow with the batch size",
            'set reduction="mean"',
            Where(key=term.output_key or None),
            {"sum": trial.actual, "mean": mean, "batch_size": term.samples},
        )


def _sums(term: SeenTerm, trial: TermTrial) -> bool:
    if trial.actual is None or trial.half is None or trial.other_half is None or not trial.actual:
        return False
    known = bool(term.kind) or trial.right is not None
    both = min(abs(trial.half), abs(trial.other_half)) > _TOLERANCE * abs(trial.actual)
    return known and both and isclose(trial.half + trial.other_half, trial.actual, rel_tol=_TOLERANCE)
