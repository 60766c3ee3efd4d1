"""A binary cross-entropy whose targets are not between 0 and 1.

Source: "wrong loss function" of N. Humbatova et al., 2020; torch does not check these targets. Beyond 1 the loss has no
lower bound: -(t log p + (1 - t) log(1 - p)) falls without end.
Cost: the range of the targets of one batch.
Risk: targets that mean "does not count" to a criterion of the user's own, or classes of which it makes zeros and ones
itself. A criterion with an ignore_index is left out, and one whose outputs are not as many as its targets.
"""

from collections.abc import Iterator
from math import prod

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import with_trials

_BINARY = ("bce", "bce_logits")
_ROUNDING = 1e-2


@rule("targets-beyond-one", at="model", needs=["trial"], explained_by=[
    "mask-scale", "mask-classes-outside", "labels-outside", "void-not-ignored",
])  # fmt: skip
def targets_beyond_one(probe: Probe) -> Iterator[Finding]:
    """Find binary cross-entropies with targets below 0 or above 1."""
    for term, trial in with_trials(probe):
        if term.kind not in _BINARY or term.criterion.ignore_index is not None:
            continue
        if prod(trial.output_shape) != prod(trial.target_shape):
            continue
        if trial.target_high > 1 + _ROUNDING or trial.target_low < -_ROUNDING:
            yield Finding(
                "error",
                f"{term.name} of term {term.label!r} takes targets between 0 and 1, and target "
                f"{term.target_key or 'of the batch'!r} goes from {trial.target_low:.3g} to {trial.target_high:.3g}: "
                "the loss falls without end",
                "give it zeros and ones, or take CrossEntropyLoss for the numbers of classes",
                Where(key=term.target_key or None),
                {"low": trial.target_low, "high": trial.target_high},
            )
