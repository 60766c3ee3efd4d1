"""The part ``tests``: the tests with the mark ``gpu``."""

import os
import re
from collections import Counter
from pathlib import Path

from ..apart import ROOT
from .job import Job, Part
from .processes import reason, run, state

_MARK = re.compile(r"\bmark\.gpu\b|\bneeds_gpu\b")
# Lines of pytest with processes, which it writes as each test ends: a run that is cut short has them too.
_OUTCOME = re.compile(r"^\[gw\d+\] \[ *\d+%\] (PASSED|FAILED|ERROR|SKIPPED) (.+?) *$", re.MULTILINE)
_REASON = re.compile(r"^(?:FAILED|ERROR) (.+?) - (.+)$", re.MULTILINE)
# pytest-benchmark, where it is installed, warns of processes, and a warning is an error here.
_OPTIONS = ("-p", "no:cacheprovider", "-p", "no:benchmark", "--tb=short", "-vv", "-rfE")


def run_tests(job: Job) -> Part:
    """Run them, in a process per core; on a CPU those that are quick."""
    marks = "gpu" if job.on_gpu else "gpu and not long"
    jobs = min(12, len(os.sched_getaffinity(0)))
    command = ["-m", "pytest", *map(str, marked_files()), "-m", marks, *_OPTIONS, "-n", str(jobs)]
    variables = {**job.variables, "GPU_TESTS_DEVICE": job.device}
    code, said = run(command, job.logs / "tests.log", job.limit_s, **variables)
    return {"state": state(code), **read_outcomes(said, code, job.limit_s)}


def marked_files() -> list[Path]:
    """Return the files with such tests, as collecting all the others takes half a minute."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [file.relative_to(ROOT) for file in files if _MARK.search(file.read_text())]


def read_outcomes(said: str, code: int | None, limit_s: float) -> Part:
    """Return what pytest said of each test, and what went wrong."""
    outcomes = {name: outcome for outcome, name in _OUTCOME.findall(said)}
    counts = Counter(outcome.lower() for outcome in outcomes.values())
    reasons = dict(_REASON.findall(said))
    failed = {name: reasons.get(name, "") for name, outcome in outcomes.items() if outcome in ("FAILED", "ERROR")}
    words = [f"{counts[name]} {name}" for name in ("passed", "failed", "error", "skipped") if counts[name]]
    if code not in (0, 1):  # 1: tests have failed
        words.append(f"pytest {reason(code, limit_s)}: {' '.join(said[-600:].split())}")
    return {"what": ", ".join(words), "counts": dict(counts), "failed": failed}
