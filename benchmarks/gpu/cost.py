"""The parts ``classifier``, ``masks`` and ``detector``: time over a bare loop, and what a step asks for."""

import json
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from ..results import spread
from .job import Job, Part
from .processes import reason, run
from .rows import AGAIN, BARE, ROWS

KINDS = ("classifier", "masks", "detector")
_FIGURES = ("seconds", "cpu_seconds", "step_ms", "peak_mib")


def run_cost(kind: str, job: Job) -> Part:
    """Measure the rows of a workload in one process, for as long as there is time."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "results.json")
        until = time.time() + job.limit_s - 2.0  # it ends by itself
        given = json.dumps({"kind": kind, "device": job.device, "until": until, "results": str(results)})
        code, said = run(["-m", "benchmarks.gpu.rows", given], job.logs / f"{kind}.log", job.limit_s, **job.variables)
        found = json.loads(results.read_text()) if results.exists() else {}
    rows = summarize(found)
    wrong = [f"{name}: {what}" for name, what in found.get("broken", {}).items()]
    if code != 0:
        wrong.append(f"{reason(code, job.limit_s)}: {' '.join(said[-600:].split())}")
    missing = [name for name in ROWS if "ratio" not in rows.get(name, {})]
    if missing and not wrong:
        wrong.append(f"no time was left for {', '.join(missing)}")
    ratios = ", ".join(f"{name} {row['ratio']['median']:.3f}" for name, row in rows.items() if "ratio" in row)
    if not job.on_gpu:
        ratios = "every row ran"  # times of tiny runs on a CPU say nothing
    state = "passed" if not wrong else "timed out" if code is None else "killed" if (code or 0) < 0 else "failed"
    return {
        "state": state, "what": "; ".join(wrong) or ratios, "rows": rows,
        "settings": found.get("settings", {}), "broken": found.get("broken", {}),
    }  # fmt: skip


PARTS = {kind: partial(run_cost, kind) for kind in KINDS}


def summarize(found: dict[str, Any]) -> dict[str, Any]:
    """Return by row what a step asks for, and the spread of each figure over the turns.

    ``ratio`` is that of the seconds to the mean of the bare loops of the same turn, ``step_ratio`` that of a training
    step's time.
    """
    rows: dict[str, Any] = {}
    for name in ROWS:
        runs = [turn for turn in found.get("turns", ()) if name in turn and (BARE in turn or AGAIN in turn)]
        row: dict[str, Any] = dict(found.get("probes", {}).get(name, {}))
        for key in _FIGURES:
            values = [turn[name][key] for turn in runs if turn[name].get(key) is not None]
            if values:
                row[key] = spread(values)
        for key, ratio in (("seconds", "ratio"), ("step_ms", "step_ratio")):
            if runs:
                row[ratio] = spread([turn[name][key] / _bare(turn, key) for turn in runs])
        if row:
            rows[name] = row
    return rows


def _bare(turn: dict[str, Any], key: str) -> float:
    return mean(turn[name][key] for name in (BARE, AGAIN) if name in turn)


def page(kind: str, part: Part) -> list[str]:
    """Return the tables of one workload."""
    if not part.get("rows"):
        return []
    setting = part["settings"]
    sizes = f"{setting['model']}, {setting['side']} px, batches of {setting['batch_size']}"
    steps = f"{setting['train_steps']} steps of training and {setting['valid_steps']} of validation"
    lines = ["", f"## {kind}: {sizes}", "", f"A run: {steps}, pictures, logs and checkpoints."]
    heads = ("run over the bare loop", "step over the bare loop", "s", "host s", "GPU memory, MiB")
    lines += _table(part["rows"], "", heads, ("ratio", "step_ratio", "seconds", "cpu_seconds", "peak_mib"))
    counts = [key for key in ("host_ms", "kernels", "copies", "fills", "waits", "operators") if _any(part["rows"], key)]
    lines += _table(part["rows"], "per training step", [_WORDS[key] for key in counts], counts)
    return lines


_WORDS = {"host_ms": "host, ms", "kernels": "kernels", "copies": "copies", "fills": "fills",
          "waits": "synchronizations", "operators": "operators"}  # fmt: skip


def _any(rows: dict[str, Any], key: str) -> bool:
    return any(row.get(key) is not None for row in rows.values())


def _table(rows: dict[str, Any], corner: str, heads: Any, keys: Any) -> list[str]:
    lines = ["", f"| {corner} | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | {' | '.join(_cell(row.get(key)) for key in keys)} |")
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return "not measured"
    if not isinstance(value, dict):
        return f"{value:.4g}"
    if len(value["values"]) == 1:
        return f"{value['median']:.4g}"
    return f"{value['median']:.4g} ({value['low']:.4g} to {value['high']:.4g})"
