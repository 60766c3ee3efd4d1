"""The bars: what a GPU has to show of each workload, and whether it does."""

from typing import Any

from .job import Part
from .rows import AGAIN, BARE, EVERY_STEP, FULL, LIGHTNING, OFF

FULL_AT_MOST = {"classifier": 1.02, "masks": 1.05, "detector": 1.05}
_COLUMNS = ("workload", "bar", "of", "found", "result")
_COUNTED = (OFF, FULL, EVERY_STEP)


# A run of a few seconds has the pictures, logs and checkpoints of an epoch, however short it is.
_OF = {"training step": "step_ratio", "whole run": "ratio"}
Judged = tuple[bool | None, str]
_NOT: Judged = (None, "")


def judge(parts: dict[str, Part], device: str) -> list[dict[str, Any]]:
    """Return each bar with ``workload``, ``bar``, ``of``, ``found`` and ``result``: met, missed or not measured."""
    found = []
    for kind, limit in FULL_AT_MOST.items():
        rows = parts.get(kind, {}).get("rows", {}) if device == "cuda" else {}
        judged = {("no synchronization added", "training step"): _waits(rows)}
        for of, key in _OF.items():
            judged[f"full at most {limit} of the bare loop", of] = _full(rows, limit, key)
            judged["off within the spread of two bare loops", of] = _off(rows, key)
            judged["full ahead of Lightning with diagnostics", of] = _ahead(rows, key)
        for (bar, of), (met, words) in sorted(judged.items()):
            result = "not measured" if met is None else "met" if met else "missed"
            found.append({"workload": kind, "bar": bar, "of": of, "found": words, "result": result})
    return found


def _full(rows: dict[str, Any], limit: float, key: str) -> Judged:
    ratio = _ratio(rows, FULL, key)
    return _NOT if ratio is None else (ratio <= limit, f"{ratio:.3f}")


def _off(rows: dict[str, Any], key: str) -> Judged:
    ratio = _ratio(rows, OFF, key)
    bare = [value for name in (BARE, AGAIN) for value in rows.get(name, {}).get(key, {}).get("values", ())]
    if ratio is None or len(bare) < 2:
        return _NOT
    return ratio <= max(bare), f"{ratio:.3f}; bare loops {min(bare):.3f} to {max(bare):.3f}"


def _ahead(rows: dict[str, Any], key: str) -> Judged:
    ratio, other = _ratio(rows, FULL, key), _ratio(rows, LIGHTNING, key)
    return _NOT if ratio is None or other is None else (ratio < other, f"{ratio:.3f}; Lightning {other:.3f}")


def _waits(rows: dict[str, Any]) -> Judged:
    waits = {name: rows.get(name, {}).get("waits") for name in (BARE, *_COUNTED)}
    if any(value is None for value in waits.values()):
        return _NOT
    most = max(waits[name] for name in _COUNTED)
    return most <= waits[BARE], f"{most:g} a step; bare loop {waits[BARE]:g}"


def _ratio(rows: dict[str, Any], name: str, key: str) -> float | None:
    median: float | None = rows.get(name, {}).get(key, {}).get("median")
    return median


def page(bars: list[dict[str, Any]]) -> list[str]:
    """Return the table of the bars."""
    lines = ["", "| workload | bar | of a | found | |", "|---|---|---|---|---|"]
    return lines + [f"| {' | '.join(bar[key] for key in _COLUMNS)} |" for bar in bars]
