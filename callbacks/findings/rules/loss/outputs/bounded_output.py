"""An activation after the last layer that cannot reach the numbers to be learned.

Source: "wrong activation of the last layer" of N. Humbatova et al., 2020.
Cost: the operation that made the outputs, and the range of the targets of one batch.
Risk: targets a little beyond the range, as noise makes them, are left out; so are outputs that are scaled after
the activation.
"""

from collections.abc import Iterator
from math import inf

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.trial_probe import TermTrial
from ..seen_terms import SeenTerm, with_trials

_OF_NUMBERS = ("mse", "l1", "smooth_l1")
_RANGES = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, inf)}
_NAMES = {"sigmoid": "a sigmoid", "softmax": "a softmax", "tanh": "a tanh", "relu": "a ReLU"}
# Of the targets' standard deviation: what is nearer to the range than this is noise.
_BEYOND = 0.5


@rule("bounded-output", at="model", needs=["trial"], explained_by=["broadcast-shapes"])
def bounded_output(probe: Probe) -> Iterator[Finding]:
    """Find outputs of an activation before a loss over numbers of which some lie outside its range."""
    for term, trial in with_trials(probe):
        made_by = trial.made_by or (term.output.made_by if term.output is not None else "")
        low, high = _RANGES.get(made_by, (-inf, inf))
        if term.kind in _OF_NUMBERS and _is_beyond(trial, low, high):
            reach = f"from {low:g} to {high:g}" if high < inf else f"from {low:g} up"
            yield Finding(
                "warning",
                f"output {_name(term)!r} ends in {_NAMES[made_by]} and can only reach numbers {reach}, while the "
                f"targets {term.target_key or 'of the batch'!r} of term {term.label!r} go from {trial.target_low:.3g} "
                f"to {trial.target_high:.3g}",
                "remove the activation after the last layer, or scale the targets to its range",
                Where(key=term.output_key or None),
                {"low": low, "high": high, "target_low": trial.target_low, "target_high": trial.target_high},
            )


def _name(term: SeenTerm) -> str:
    return term.output_key or "of the model"


def _is_beyond(trial: TermTrial, low: float, high: float) -> bool:
    beyond = max(low - trial.target_low, trial.target_high - high)
    return beyond > _BEYOND * trial.target_std > 0
