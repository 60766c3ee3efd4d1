"""Numbers as JSON holds them."""

import math


def json_number(value: float) -> float | str:
    """Return a number as it is, or as ``nan``, ``inf`` or ``-inf``, which JSON has no numbers for."""
    value = float(value)
    return value if math.isfinite(value) else str(value)
