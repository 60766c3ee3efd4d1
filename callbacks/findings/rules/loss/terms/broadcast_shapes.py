"""Outputs and targets of other shapes, which torch spreads over each other.

Source: torch warns of it once ("Using a target size that is different to the input size"); [N, 1] against [N].
Cost: none.
Risk: a criterion that reshapes them itself; one of the user's own counts only where it was seen to spread them as they
are, without an axis that was added on purpose, or where its value shows it.
"""

from collections.abc import Iterator
from math import isclose, prod

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.trial_probe import TermTrial
from ..seen_terms import with_trials

_OF_NUMBERS = ("mse", "l1", "smooth_l1")
# Each target against each other one: the mean square is twice their variance.
_TOLERANCE = 0.05


@rule("broadcast-shapes", at="model", needs=["trial"])
def broadcast_shapes(probe: Probe) -> Iterator[Finding]:
    """Find terms over numbers that compare every output with every target."""
    for term, trial in with_trials(probe):
        spreads = term.kind in _OF_NUMBERS or (not term.kind and _compares_all(trial))
        shapes = (trial.output_shape, trial.target_shape) if spreads and _is_spread(*_shapes(trial)) else trial.spread
        if shapes:
            output, target = map(list, shapes)
            yield Finding(
                "error",
                f"output {term.output_key or 'of the model'!r} has the shape {output} and target "
                f"{term.target_key or 'of the batch'!r} {target}: they broadcast, so term {term.label!r} compares "
                "every output with every target, and all outputs become their mean",
                "give both the same shape, by squeeze(1) on the output or unsqueeze(1) on the target",
                Where(key=term.output_key or None),
                {"output": output, "target": target},
            )


def _shapes(trial: TermTrial) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return trial.output_shape, trial.target_shape


def _is_spread(output: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether shapes fit each other only by repeating both, or one of them along the samples."""
    if output == target or not output or not target:
        return False
    length = max(len(output), len(target))
    pairs = list(zip((1,) * (length - len(output)) + output, (1,) * (length - len(target)) + target, strict=True))
    fits = all(one == other or 1 in (one, other) for one, other in pairs)
    return fits and prod(map(max, pairs)) > max(prod(output), prod(target))


def _compares_all(trial: TermTrial) -> bool:
    square = 2 * trial.target_std**2
    return trial.right is not None and square > 0 and isclose(trial.right, square, rel_tol=_TOLERANCE)
