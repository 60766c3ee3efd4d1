"""Catalyst's own tests, with and without ``revive()``: ``python -m proofs.catalyst_suite CHECKOUT``.

Writes ``benchmarks/results/catalyst-suite.json`` and ``docs/catalyst-suite.md``.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from benchmarks.results import FOLDER, machine

from .suite_reasons import REASONS
from .suite_runs import PARTS, lay_out, run_suite

RESULT = FOLDER / "catalyst-suite.json"
PAGE = FOLDER.parent.parent / "docs" / "catalyst-suite.md"
# What the tests import beside what assay requires; each skips or fails without.
NEEDED = ("onnx", "onnxruntime", "onnxscript", "optuna", "pandas", "path")
CONFIGS = "tests/pipelines, by catalyst-run"

Outcomes = Mapping[str, str]  # see run_suite

_HEAD = """# Catalyst's own tests

`make suite CATALYST=CHECKOUT` writes this page. The tests of Catalyst v22.04 run on Catalyst 22.4, on a CPU, with the
same flags: once on Catalyst as it is, and once after `assay.runner.revive()`, without any change to the tests. They
train on digits made from scikit-learn's, in the files and sizes of MNIST. Skipped tests are not counted: they need a
GPU or are switched off by Catalyst. Each test by `catalyst-run` runs a YAML config in a process of its own.

Python {python}, torch {torch}, accelerate {accelerate}, NumPy {numpy}, {date}.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite twice; 1 where a test passes without and fails with, or fails for a reason that is not known."""
    parser = argparse.ArgumentParser(prog="python -m proofs.catalyst_suite", description=__doc__)
    parser.add_argument("checkout", type=Path, metavar="CHECKOUT", help="a folder with the sources of Catalyst v22.04")
    checkout = parser.parse_args(arguments).checkout
    for part in PARTS:
        if not (checkout / part).is_dir():
            parser.error(f"there is no folder {part} in {str(checkout)!r}: check Catalyst v22.04 out there")
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        parser.error(f"the suite needs {', '.join(missing)}: run it by `make suite`, or install assay's extra `suite`")
    with tempfile.TemporaryDirectory() as folder:
        lay_out(checkout, Path(folder))
        without, revived = (run_suite(Path(folder), revived=each) for each in (False, True))
    return report(without, revived)


def report(without: Outcomes, revived: Outcomes) -> int:
    """Write the result and the page; print each test that should not fail, and return 1 where there is one."""
    found = machine("cpu") | {"suite": dict(_versions())}
    content = {
        "machine": found,
        "tests": count(without, revived),
        "failures_without": {name: error for name, error in without.items() if error},
        "failures_with": {name: error for name, error in revived.items() if error},
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    about = found["packages"] | {"python": found["python"], "date": found["date"]}
    PAGE.write_text("\n".join([_HEAD.format_map(about), *_table(without, revived), "", *_failures(revived)]) + "\n")
    print("\n".join(_table(without, revived)))
    wrong = faults(without, revived)
    print("\n".join(wrong or ["none that passes without fails with, and each that fails has its reason"]), flush=True)
    return int(bool(wrong))


def faults(without: Outcomes, revived: Outcomes) -> list[str]:
    """Return a line for each test that ``revive`` broke, and for each that fails with no reason known."""
    broken = [name for name in without if _passed(without, name) and not _passed(revived, name)]
    unknown = [name for name, error in revived.items() if error and name not in REASONS and name not in broken]
    return [
        *(
            f"passes without revive() and fails with it: {name}: {revived.get(name, 'it did not run')}"
            for name in broken
        ),
        *(f"fails, and no reason is known: {name}: {revived[name]}" for name in unknown),
    ]


def count(without: Outcomes, revived: Outcomes) -> dict[str, dict[str, int]]:
    """Return how many tests run and pass in each folder, and in all."""
    names = sorted({*without, *revived}, key=lambda name: (_folder(name), name))
    rows: dict[str, dict[str, int]] = {}
    for name in names:
        for folder in (_folder(name), "all"):
            row = rows.setdefault(folder, {"run": 0, "without": 0, "with": 0})
            row["run"] += 1
            row["without"] += _passed(without, name)
            row["with"] += _passed(revived, name)
    return {folder: rows[folder] for folder in sorted(rows, key=lambda folder: (folder == "all", folder))}


def _passed(outcomes: Outcomes, name: str) -> bool:
    return outcomes.get(name) == ""


def _folder(name: str) -> str:
    path, _, test = name.partition("::")
    return CONFIGS if "config" in test else str(Path(path).parent)


def _table(without: Outcomes, revived: Outcomes) -> list[str]:
    rows = [[folder, *map(str, row.values())] for folder, row in count(without, revived).items()]
    titles = ["tests", "run", "pass without `revive()`", "pass with it"]
    return ["| " + " | ".join(cells) + " |" for cells in [titles, ["---", "---:", "---:", "---:"], *rows]]


def _failures(revived: Outcomes) -> list[str]:
    failed = sorted(name for name, error in revived.items() if error)
    if not failed:
        return ["No test fails with it."]
    rows = [f"| `{name}` | {' | '.join(REASONS.get(name, ('?', revived[name])))} |" for name in failed]
    return ["These tests fail with it:", "", "| test | whose fault | why |", "| --- | --- | --- |", *rows]


def _versions() -> Iterator[tuple[str, str | None]]:
    """Yield the packages that the tests need, with None for one that is not there."""
    for name in NEEDED:
        yield name, version(name) if find_spec(name) else None


if __name__ == "__main__":
    raise SystemExit(main())
