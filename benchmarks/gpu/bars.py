"""The bars: what a GPU has to show of each workload, and whether it does."""

from typing import Any

from .job import Part
from .rows import AGAIN, BARE, EVERY_STEP, FULL, LIGHTNING, OFF

FULL_AT_MOST = {"classifier": 1.02, "masks": 1.05, "detector": 1.05}
_COUNTED = (OFF, FULL, EVERY_STEP)


def judge(parts: dict[str, Part], device: str) -> list[dict[str, Any]]:
    """Return each bar with ``workload``, ``bar``, ``found`` and ``result``: met, missed or not measured."""
    found = []
    for kind, limit in FULL_AT_MOST.items():
        rows = parts.get(kind, {}).get("rows", {}) if device == "cuda" else {}
        for bar, (met, words) in {
            f"full at most {limit} of the bare loop": _full(rows, limit),
            "off within the spread of two bare loops": _off(rows),
            "no synchronization added to a step": _waits(rows),
            "full ahead of Lightning with diagnostics": _ahead(rows),
        }.items():
            result = "not measured" if met is None else "met" if met else "missed"
            found.append({"workload": kind, "bar": bar, "found": words, "result": result})
    return found


Judged = tuple[bool | None, str]
_NOT: Judged = (None, "")


def _full(rows: dict[str, Any], limit: float) -> Judged:
    ratio = _ratio(rows, FULL)
    return _NOT if ratio is None else (ratio <= limit, f"{ratio:.3f}")


def _off(rows: dict[str, Any]) -> Judged:
    ratio = _ratio(rows, OFF)
    bare = [value for name in (BARE, AGAIN) for value in rows.get(name, {}).get("ratio", {}).get("values", ())]
    if ratio is None or len(bare) < 2:
        return _NOT
    return ratio <= max(bare), f"{ratio:.3f}; bare loops {min(bare):.3f} to {max(bare):.3f}"


def _waits(rows: dict[str, Any]) -> Judged:
    waits = {name: rows.get(name, {}).get("waits") for name in (BARE, *_COUNTED)}
    if any(value is None for value in waits.values()):
        return _NOT
    most = max(waits[name] for name in _COUNTED)
    return most <= waits[BARE], f"{most:g} a step; bare loop {waits[BARE]:g}"


def _ahead(rows: dict[str, Any]) -> Judged:
    ratio, other = _ratio(rows, FULL), _ratio(rows, LIGHTNING)
    return _NOT if ratio is None or other is None else (ratio < other, f"{ratio:.3f}; Lightning {other:.3f}")


def _ratio(rows: dict[str, Any], name: str) -> float | None:
    median: float | None = rows.get(name, {}).get("ratio", {}).get("median")
    return median


def page(bars: list[dict[str, Any]]) -> list[str]:
    """Return the table of the bars."""
    lines = ["", "| workload | bar | found | |", "|---|---|---|---|"]
    lines += [f"| {bar['workload']} | {bar['bar']} | {bar['found']} | {bar['result']} |" for bar in bars]
    return lines
