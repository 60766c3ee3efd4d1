"""How a fold is called: 2/5 is the second of five. It imports no torch."""

import re

from assay.callbacks.errors import UsageError


def parse_fold(fold: str) -> tuple[int, int]:
    """Return the number of a fold, from 0 on, and how many there are.

    Example:
        >>> parse_fold("2/5")
        (1, 5)
    """
    parts = re.fullmatch(r"(\d+)/(\d+)", fold.strip())
    number, folds = (int(parts[1]), int(parts[2])) if parts else (0, 0)
    if not 1 <= number <= folds or folds < 2:
        raise UsageError(f"fold must be one of several, such as 1/5 to 5/5, got {fold!r}.")
    return number - 1, folds
