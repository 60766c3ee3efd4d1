"""Weighted sums of losses as one writes them down, ``bce + 0.5*dice``, read without importing torch."""

import math
import re
from collections.abc import Iterable

from assay.callbacks.errors import UsageError, unknown_name

LOSSES = ("cross_entropy", "bce", "soft_bce", "focal", "dice", "jaccard", "lovasz")

_TERM = re.compile(r"(?:(?P<weight>[^*]+)\*)?(?P<name>[^*]+)")


def parse_loss(text: str, known: Iterable[str] = LOSSES) -> dict[str, float]:
    """Return the weight of each loss of a sum such as ``bce + 0.5*dice``.

    Args:
        text: the sum; spaces, case and ``-`` for ``_`` make no difference.
        known: the names that it may hold.

    Raises:
        UsageError: a loss is unknown or stands there twice, or a weight is no number greater than 0.

    Example:
        >>> parse_loss("BCE + 0.5*dice")
        {'bce': 1.0, 'dice': 0.5}
    """
    known, weights = list(known), dict[str, float]()
    for term in re.split(r"(?<![0-9.]e)\+", text.replace(" ", "").lower()):  # 1e+2 is a number
        parts = _TERM.fullmatch(term)
        if parts is None:
            raise UsageError(f"loss must be a sum of losses with weights, such as 'bce + 0.5*dice', got {text!r}.")
        weight, name = parts["weight"] or "1", parts["name"].replace("-", "_")
        if name not in known and (swapped := weight.replace("-", "_")) in known:
            weight, name = name, swapped  # dice*0.5
        if name not in known:
            raise unknown_name("loss", name, known)
        if name in weights:
            raise UsageError(f"loss must hold each loss once, got {name!r} twice in {text!r}.")
        weights[name] = _weight(weight, text)
    return weights


def _weight(text: str, loss: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"loss must have weights greater than 0, such as 'bce + 0.5*dice', got {text!r} in {loss!r}.")
    return number
