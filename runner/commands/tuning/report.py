"""What came of a search: a line for each trial, the best ones as a table, and the command that trains the best."""

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial, TrialState

from assay.callbacks.support.atomic_files import save_text
from assay.callbacks.support.tables import text_table

from ...processes.shell import command
from .study import FAILED, Study, counts

if TYPE_CHECKING:
    from .request import Request

_SHOWN = 10
_TABLE = "trials.csv"
_STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.RUNNING: "running"}


def ended_line(study: Study, number: int) -> str:
    """Return what came of a trial."""
    trial, name = study.all_trials()[number], study.request.monitor.name
    if trial.state == TrialState.COMPLETE:
        return f"trial {number}: {name} {trial.value:.4f} in epoch {_best_epoch(study, trial)}"
    if trial.state == TrialState.PRUNED:
        value = trial.intermediate_values[trial.last_step or 0]
        return f"trial {number}: pruned after epoch {trial.last_step}: {name} {value:.4f} is worse than the median"
    return f"trial {number} failed: {trial.user_attrs.get(FAILED, 'it was interrupted')}"


def report_lines(study: Study) -> list[str]:
    """Return the last lines of a search: how many trials, the best ones, and how to train the best."""
    trials, request = study.all_trials(), study.request
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    sign = 1 if request.monitor.minimize else -1
    ranked = sorted(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number))
    lines = [_counts(trials), *_rows(study, ranked[:_SHOWN])]
    if not ranked:
        return [*lines, "no trial has reached its end"]
    best = ranked[0]
    return [
        *lines,
        f"best: trial {best.number}, {study.trial_folder(best.number)}",
        f"train it again: {_command(request, best)}",
    ]


def write_table(study: Study) -> None:
    """Write all trials to ``trials.csv`` in the study's folder, with what was chosen and what came of it."""
    names = [term.name for term in study.request.terms]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", study.request.monitor.name, "epoch", "epochs", "seconds", *names])
    for trial in study.all_trials():
        if trial.state != TrialState.WAITING:
            writer.writerow([*_outcome(study, trial), *(trial.params.get(name) for name in names)])
    save_text(study.folder / _TABLE, text.getvalue())


def _outcome(study: Study, trial: FrozenTrial) -> list[object]:
    state = _STATES.get(trial.state) or (FAILED if counts(trial) else "interrupted")
    best = _best_epoch(study, trial)
    value = None if best is None else trial.intermediate_values[best]
    seconds = None if trial.duration is None else round(trial.duration.total_seconds(), 1)
    return [trial.number, state, value, best, trial.last_step, seconds]


def _best_epoch(study: Study, trial: FrozenTrial) -> int | None:
    monitor = study.request.monitor
    return monitor.best(
        {epoch: {monitor.loader: {monitor.metric: it}} for epoch, it in trial.intermediate_values.items()}
    )


def _counts(trials: Sequence[FrozenTrial]) -> str:
    kinds = {"to the end": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "running elsewhere": TrialState.RUNNING}
    parts = {kind: sum(trial.state == state for trial in trials) for kind, state in kinds.items()}
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    parts["failed"] = sum(map(counts, failed))
    parts["interrupted"] = len(failed) - parts["failed"]
    known = ", ".join(f"{count} {kind}" for kind, count in parts.items() if count)
    return f"{sum(parts.values())} trials: {known or 'none'}"


def _rows(study: Study, trials: Sequence[FrozenTrial]) -> list[str]:
    names = [term.name for term in study.request.terms]
    rows = []
    for trial in trials:
        values = [trial.params[name] for name in names]
        shown = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in values]
        rows.append([str(trial.number), f"{trial.value:.4f}", str(_best_epoch(study, trial)), *shown])
    header = ["trial", study.request.monitor.name, "epoch", *names]
    return text_table(header, rows).splitlines() if rows else []


def _command(request: "Request", trial: FrozenTrial) -> str:
    words = {term.name: str(trial.params[term.name]) for term in request.terms}
    return command("assay", "train", request.experiment, *request.flags(words))
