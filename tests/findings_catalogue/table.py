"""Run the whole catalogue and write docs/findings-catalogue.md: ``python tests/findings_catalogue/table.py``."""

import contextlib
import logging
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "findings-catalogue.md"
KINDS = (
    "data against itself", "train against valid", "labels against images", "masks and boxes", "the model",
    "loss and outputs", "optimization", "the first epochs",
)  # fmt: skip
MOMENTS = {"data": "before training", "model": "before training", "steps": "in the first steps"}


def main():
    sys.path.insert(0, str(ROOT / "tests"))
    from findings_catalogue.case import FAULTS
    from findings_catalogue.faults import data  # noqa: F401
    from findings_catalogue.healthy import HEALTHY

    # Not a Pool, whose processes may have no children, by which samples are read.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, _begin) as pool:
        faults = list(pool.map(_try_fault, range(len(FAULTS)), chunksize=4))
        healthy = list(pool.map(_try_healthy, sorted(HEALTHY), chunksize=4))
    PAGE.write_text(page(faults, healthy), encoding="utf-8")
    named, alarms = sum(bool(row[2]) for row in faults), sum(bool(row[1]) for row in healthy)
    print(f"{named} of {len(faults)} faults named, {alarms} of {len(healthy)} healthy trainings with an alarm: {PAGE}")


def _begin():
    sys.path.insert(0, str(ROOT / "tests"))
    logging.disable(logging.CRITICAL)
    import torch

    torch.set_num_threads(1)


def _try_fault(number):
    """Return kind and name of a fault, and rule, severity, moment and sentence of what names it."""
    from findings_catalogue.case import FAULTS, named_by, run
    from findings_catalogue.faults import data  # noqa: F401

    fault = FAULTS[number]
    with _silently():
        found, _ = run(fault.case())
    finding = named_by(fault, found)
    if finding is None:
        others = ", ".join(dict.fromkeys(it.rule for it in found if it.severity != "note"))
        return fault.kind, fault.name, None, others
    return fault.kind, fault.name, (finding.rule, finding.severity, _moment(finding)), finding.sentence


def _moment(finding):
    from assay.callbacks.findings.rules import all_rules

    at = next(rule.at for rule in all_rules() if rule.name == finding.rule)
    return MOMENTS.get(at, f"after epoch {finding.epoch}")


def _try_healthy(name):
    """Return the name of a healthy training, its alarms, and its notes, by rule."""
    from findings_catalogue.case import run
    from findings_catalogue.healthy import HEALTHY

    with _silently():
        found, error = run(HEALTHY[name][0]())
    alarms = [f"{it.rule}: {it.sentence}" for it in found if it.severity != "note"]
    if error is not None:
        alarms.append(f"ended by {type(error).__name__}: {error}")
    return name, alarms, [it.rule for it in found if it.severity == "note"]


@contextlib.contextmanager
def _silently():
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def page(faults, healthy):
    """Return the tables as Markdown."""
    named = sum(bool(row[2]) for row in faults)
    early = sum(bool(row[2]) and not row[2][2].startswith("after") for row in faults)
    alarms = sum(bool(row[1]) for row in healthy)
    lines = [
        "# Planted faults and what is said of them",
        "",
        "Small real trainings with one fault each, and healthy ones, run by `python tests/findings_catalogue/table.py` "
        f"at `quick` on {datetime.now(UTC):%Y-%m-%d}. A fault is named where a finding gives its cause and its place.",
        "",
        f"**{named} of {len(faults)} faults are named**, {early} of them before the first epoch has ended; "
        f"**{alarms} of {len(healthy)} healthy trainings** get an alarm.",
    ]
    for kind, title in enumerate(KINDS, 1):
        rows = [row for row in faults if row[0] == kind]
        lines += ["", f"## {title.capitalize()}: {sum(bool(row[2]) for row in rows)} of {len(rows)}", ""]
        lines += ["| fault | by | when | says |", "|---|---|---|---|"]
        for _, name, by, sentence in rows:
            rule, severity, moment = by or ("", "", "not named")
            cells = (name, f"[{rule}](findings/{rule}.md) ({severity})" if by else "", moment, _cell(sentence))
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "## Healthy trainings", "", "| training | alarms | notes |", "|---|---|---|"]
    for name, found, notes in healthy:
        lines.append(f"| {name} | {_cell('; '.join(found)) or 'none'} | {', '.join(dict.fromkeys(notes))} |")
    return "\n".join(lines) + "\n"


def _cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    main()
