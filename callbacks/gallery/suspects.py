"""What the table of suspects says of single samples."""

from collections.abc import Iterable, Mapping
from typing import Any


def told_suspects(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what is probably wrong with a sample, the surest first.

    Args:
        rows: of ``suspects.csv`` on this sample.

    Returns:
        Of each ``kind``, one of ``history.suspects.SUSPECT_KINDS``; ``label`` and ``likely_label``, names or numbers of
        classes, or None; ``score``, 0 to 1, or None; ``where``, x1, y1, x2 and y2 in pixels of the picture as the model
        saw it, or None.

    Example:
        >>> told_suspects([{"kind": "false_box", "label": "cat", "score": "0.5", "where": "1 2 3 4"}])
        [{'kind': 'false_box', 'label': 'cat', 'likely_label': None, 'score': 0.5, 'where': [1.0, 2.0, 3.0, 4.0]}]
    """
    return [
        {
            "kind": row.get("kind") or "label",  # of a version that knew of labels alone
            "label": row.get("label") or None,
            "likely_label": row.get("likely_label") or None,
            "score": None if (score := _numbers(row.get("score"), 1)) is None else score[0],
            "where": _numbers(row.get("where"), 4),
        }
        for row in rows
    ]


def _numbers(text: Any, count: int) -> list[float] | None:
    """Return so many numbers of a text; None where there are others."""
    try:
        found = [float(part) for part in str(text or "").split()]
    except ValueError:
        return None
    is_right = len(found) == count and all(abs(one) < 1e9 for one in found)
    return found if is_right else None
