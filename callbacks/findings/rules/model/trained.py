"""Whether weights were trained before, by their values alone: initializations leave marks that training blurs."""

from collections.abc import Collection
from math import prod, sqrt

from ...probe.model_probe import ModelProbe, ParameterProbe
from .parts import fans, owner

# Of a standard deviation, in its own statistical errors, and at the least.
_ERRORS, _LEAST = 4.0, 0.01
# Of the largest weight that torch draws, for rounding.
_ROUNDING = 1.0001
# Largest value in parts of the deviation.
_EVEN, _NORMAL = sqrt(3), 2.2
# Of normal distributions that ignore the number of inputs.
_USUAL = (0.02, 0.01, 0.001, 0.05, 0.1)


def look_trained(model: ModelProbe, weights: Collection[ParameterProbe]) -> frozenset[str]:
    """Return the names of those weights that no usual initialization gives.

    Torch draws evenly up to a bound, which some weights leave with the first steps; others draw with a known spread
    around 0, or with the same one everywhere.
    """
    biases = {owner(it.name): it for it in model.parameters if it.name.endswith("bias")}
    odd = [it for it in weights if not _is_drawn(it, biases.get(owner(it.name)))]
    spreads = [it.std for it in odd]
    # Of layers of one size, what was trained has the same spread as well.
    if len({fans(it) for it in odd}) > 1 and max(spreads) < (1 + max(map(_tolerance, odd))) * min(spreads):
        return frozenset()
    return frozenset(it.name for it in odd)


def _is_drawn(weight: ParameterProbe, bias: ParameterProbe | None) -> bool:
    fan_in, fan_out = fans(weight)
    # Recurrent layers draw by the size of their state, which a quarter or a third of the rows of their weights is.
    bound = max(1 / sqrt(fan_in), 2 / sqrt(weight.shape[0]) if "_ih" in weight.name or "_hh" in weight.name else 0.0)
    within = max(-weight.low, weight.high) <= bound * _ROUNDING
    return (within or _has_known_spread(weight, fan_in, fan_out)) and _begins_as_usual(bias, bound)


def _has_known_spread(weight: ParameterProbe, fan_in: int, fan_out: int) -> bool:
    rows = weight.shape[0]
    known = (
        *(sqrt(gain / fan) for fan in (fan_in, fan_out, (fan_in + fan_out) / 2) for gain in (1, 2)),
        1 / sqrt(max(rows, fan_in)),
        1 / sqrt(3 * fan_out),
        *_USUAL,
    )
    tolerance = _tolerance(weight)
    centred = abs(weight.mean) < _ERRORS * weight.std / sqrt(prod(weight.shape))
    # Between those of an even and of a normal distribution, cut off at twice its deviation at the least.
    largest = max(-weight.low, weight.high) / max(weight.std, 1e-12)
    blurred = _EVEN * (1 + tolerance) < largest < _NORMAL
    return centred and not blurred and any(abs(weight.std / one - 1) < tolerance for one in known)


def _begins_as_usual(bias: ParameterProbe | None, bound: float) -> bool:
    """Return whether a bias is one number, or as torch draws it."""
    return bias is None or bias.low == bias.high or max(-bias.low, bias.high) <= bound * _ROUNDING


def _tolerance(weight: ParameterProbe) -> float:
    return max(_LEAST, _ERRORS / sqrt(2 * prod(weight.shape)))
