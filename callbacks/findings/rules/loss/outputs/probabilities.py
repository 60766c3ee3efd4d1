"""Whether the numbers of an output are probabilities, or their logarithms."""

import numpy as np

from ....probe.model_probe import OutputProbe

# Half precision rounds a sum of shares by so much.
_TOLERANCE = 5e-3
# What ends in one of these has no bounds, whatever the values of one batch are.
_LINEAR = ("addmm", "mm", "bmm", "baddbmm", "linear", "convolution", "mkldnnconvolution", "nativebatchnorm", "add")


def sums_to_one(output: OutputProbe, axis: int) -> bool:
    """Return whether sums over an axis are all 1."""
    return output.low >= 0 and _all_one(output.sums.get(axis, (0.0, 0.0)))


def logs_sum_to_one(output: OutputProbe, axis: int) -> bool:
    """Return whether values are logarithms of numbers whose sums over an axis are all 1."""
    return output.high <= 0 and _all_one(output.exp_sums.get(axis, (0.0, 0.0)))


def _all_one(sums: tuple[float, float]) -> bool:
    return all(abs(one - 1) < _TOLERANCE for one in sums)


def are_log_probabilities(output: OutputProbe) -> bool:
    """Return whether each row holds the logarithms of numbers whose sum is 1."""
    if output.values is None or not output.values.size or output.high > _TOLERANCE:
        return False
    return bool((np.abs(np.exp(output.values.astype(np.float64)).sum(1) - 1) < _TOLERANCE).all())


def within_one(output: OutputProbe) -> bool:
    """Return whether all numbers lie within 0 and 1, and that on purpose: they are many and differ."""
    values = output.values
    return output.low >= 0 and output.high <= 1 and values is not None and len(np.unique(values)) > 1


def ends_linearly(output: OutputProbe) -> bool:
    """Return whether an output is known to come out of a layer without an activation."""
    return output.made_by in _LINEAR
