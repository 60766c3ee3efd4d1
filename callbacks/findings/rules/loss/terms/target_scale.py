"""Numbers to be learned that are hundreds or thousandths.

Source: the inputs and outputs of a regression are normalized (C. Bishop, "Neural Networks for Pattern Recognition",
1995, 8.2); of N. Humbatova et al., 2020: "missing normalization".
Cost: none.
Risk: targets whose scale is meant, with a last layer that has it too; those are as large as the outputs.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import with_trials

_OF_NUMBERS = ("mse", "l1", "smooth_l1")
# A fresh model gives numbers of about 0.1 to 3. Years, degrees and metres lie within these limits, and are learned.
_LARGE, _SMALL = 100.0, 1e-3
# So much larger or smaller than what the model gives: else its last layer knows the scale.
_RATIO = 30.0


@rule("target-scale", at="model", needs=["trial"], explained_by=["broadcast-shapes"])
def target_scale(probe: Probe) -> Iterator[Finding]:
    """Find targets of a regression whose scale is far from 1 and from that of the outputs."""
    for term, trial in with_trials(probe):
        targets, outputs = trial.target_std, trial.output_std
        if term.kind not in _OF_NUMBERS or not targets or not outputs:
            continue
        large = targets > _LARGE and targets > _RATIO * outputs
        if large or (targets < _SMALL and outputs > _RATIO * targets):
            size = "large" if large else "small"
            yield Finding(
                "warning",
                f"the targets {term.target_key or 'of the batch'!r} of term {term.label!r} are far too {size} "
                f"(standard deviation {targets:.3g}, from {trial.target_low:.4g} to {trial.target_high:.4g}, and that "
                f"of the outputs is {outputs:.2g}): the loss begins at {trial.actual or 0:.3g}",
                "normalize the targets by their mean and standard deviation of training",
                Where(key=term.target_key or None),
                {"target_std": targets, "output_std": outputs},
            )
