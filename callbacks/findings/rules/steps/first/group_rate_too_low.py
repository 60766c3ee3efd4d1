"""A group of parameters whose learning rate is far too low, so that it stays at random values while others learn.

Source: as ``group-rate-too-high``, from the other side.
Cost: the norms of the first updates, and the spread of the initial weights.
Risk: a backbone that was trained before is given a low rate on purpose; so its weights have to lie as initializations
draw them, and a rate up to 200 times lower is left alone. Small parts, such as a projection, may be held on purpose.
"""

from collections.abc import Iterator
from math import prod, sqrt

from ....probe.finding import Finding, Where
from ....probe.model_probe import ParameterProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from ...model.parts import fans, head_names, is_loaded, modules_of, owner, size
from .group_sizes import Side, sides, told

_TIMES = 200.0
# The way of the others in a step is a usual one, and theirs is less than this in the whole run, in parts of the weight.
_FINE, _MOVES = (1e-4, 0.5), 0.2
_SMALL_PART = 0.05
# A uniform distribution ends at 1.73 spreads; of trained weights the largest lie further out.
_UNIFORM = 1.80
_FEW = 100  # numbers, of which the spread says little
_SPREADS = 4.0  # standard errors of a spread


@rule("group-rate-too-low", at="steps", needs=["steps", "settings", "model"], explained_by=[
    "schedule-at-zero", "weights-do-not-change", "group-rate-too-high", "vanishing-signal", "dead-units",
    "saturated-units", "zero-weights", "large-weights", "detached-branch", "no-optimizer-for", "tiny-clip",
])  # fmt: skip
def group_rate_too_low(probe: Probe) -> Iterator[Finding]:
    """Find groups of random weights that cannot move in the run, beside others that do."""
    found = sides(probe)
    if found is None or "," in probe.settings.optimizer:
        return
    low, high = found
    settings = probe.settings
    steps = settings.epochs * settings.steps_per_epoch
    top = max(settings.lr_plan, default=1.0) / max(next(iter(settings.lr_plan), 1.0), 1e-9)
    moves = low.size * steps * max(1.0, top)
    if high.lr < _TIMES * low.lr or moves > _MOVES or not _FINE[0] < high.size < _FINE[1] or not _is_random(probe, low):
        return
    yield Finding(
        "warning",
        f"the learning rate {low.lr:g} of {told(low, high)} is too low, {high.lr / low.lr:,.0f} times below that of "
        f"other parameters ({high.lr:g}): its weights begin at random and change by {share(moves, 1)} of their size in "
        f"the whole run of {steps:,} steps",
        f"set the learning rate of this group near {high.lr:g}, or load trained weights into it",
        Where(layer=modules_of(low.names, high.names)[0], field="lr"),
        {"lr": low.lr, "other_lr": high.lr, "moves": moves, "groups": list(low.indices)},
    )


def _is_random(probe: Probe, side: Side) -> bool:
    """Whether the weights of a large part of the model, or of a head, lie as initializations draw them."""
    model = probe.model
    if model is None:
        return False
    weights = [it for it in model.parameters if it.name in side.weights and not is_loaded(probe, it)]
    heads = head_names(model)
    counts = size(weights) >= _SMALL_PART * size(model.parameters) or any(owner(it.name) in heads for it in weights)
    large = [it for it in weights if prod(it.shape) >= _FEW]
    return counts and bool(large) and all(map(_is_drawn, large))


def _is_drawn(weight: ParameterProbe) -> bool:
    """Whether values are even, or their spread is one of those of usual initializations."""
    if weight.std <= 0:
        return False
    if max(-weight.low, weight.high) < _UNIFORM * weight.std:
        return True
    inputs, outputs = fans(weight)
    usual = (sqrt(2 / inputs), sqrt(1 / inputs), sqrt(2 / outputs), sqrt(2 / (inputs + outputs)), 0.02, 0.01)
    error = _SPREADS / sqrt(2 * prod(weight.shape))
    return any(abs(weight.std / spread - 1) < error for spread in usual)
