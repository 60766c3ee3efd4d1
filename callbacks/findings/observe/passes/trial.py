"""What each term of the loss makes of outputs that are known to be right, wrong or blank."""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ...probe.settings_probe import CriterionProbe, SettingsProbe
from ...probe.trial_probe import TermTrial, TrialProbe
from ..loss.traced import TracedLoss
from .batches import cut
from .made_outputs import Task, find_task
from .outputs import made_by
from .passes import TrainingPass
from .terms import Term

_CLASSES = 64  # classes of the batch whose losses are looked at one by one


@torch.no_grad()
def try_terms(found: TrainingPass, settings: SettingsProbe) -> TrialProbe:
    """Return the trials of all terms on the outputs of a training pass."""
    criteria = {term.label: term.criterion for term in settings.terms}
    trials = {
        term.label: _try(term, criteria.get(term.label, term.criterion or CriterionProbe("")), found)
        for term in found.terms
    }
    return TrialProbe(trials, found.samples)


def _try(term: Term, criterion: CriterionProbe, found: TrainingPass) -> TermTrial:
    output, target = term.output, term.target
    traced = TracedLoss(output, target)
    actual, error = _actual(term, traced)
    if not isinstance(output, Tensor):
        return TermTrial(term.label, actual, error=error, output=term.output_key, target=term.target_key)
    operation = made_by(output)
    output = output.detach()
    return TermTrial(
        term.label,
        actual,
        _number(term, torch.zeros_like(output), target),
        **_made(term, find_task(output, target, criterion)),
        **_halves(term, output, target, found.samples),
        shifted=_number(term, output + 1, target),
        **_facts(output, target),
        error=error,
        output=term.output_key,
        target=term.target_key,
        weight=term.weight,
        criterion=term.criterion or traced.seen,
        takes=traced.takes(),
        made_by=operation,
        spread=traced.spread,
        softmax_axes=tuple(traced.softmax_axes),
    )


def _actual(term: Term, traced: TracedLoss) -> tuple[float | None, str]:
    try:
        with traced:
            value = term.value()
        traced.end(value)
        return _as_float(value), ""
    except Exception as error:  # noqa: BLE001 - a criterion of the user's may raise anything; the rules tell of it
        return None, str(error) or type(error).__name__


def _number(term: Term, output: Any, target: Any) -> float | None:
    """Return a term on other outputs; None where it fails on them."""
    if output is None:
        return None
    with suppress(Exception):
        # A copy, as a criterion may work in place.
        return _as_float(term.call(output.clone(), target))
    return None


def _as_float(value: Any) -> float | None:
    if isinstance(value, Tensor):
        return float(value.detach().float().mean()) if value.numel() else None
    return float(value) if isinstance(value, int | float) else None


def _made(term: Term, task: Task | None) -> dict[str, Any]:
    if task is None:
        return {}
    return {
        "right": _number(term, task.right(), term.target),
        "wrong": _number(term, task.wrong(), term.target),
        "right_probabilities": _number(term, task.right(probabilities=True), term.target),
        "wrong_probabilities": _number(term, task.wrong(probabilities=True), term.target),
        "of_class": _of_classes(term, task),
    }


def _of_classes(term: Term, task: Task) -> dict[int, float]:
    """Return the value on the samples, or pixels, of each class alone, of blank outputs."""
    target = term.target
    if task.kind == "labels" and task.output.numel() != len(target):
        return {}
    if task.kind == "numbers" or (target.is_floating_point() and task.kind == "classes"):
        return {}
    places = task.truth.flatten()
    blank = torch.zeros_like(task.output)
    rows = blank if blank.ndim < 3 else blank.movedim(1, -1).flatten(0, -2)
    targets = target if blank.ndim < 3 else target.flatten()
    found = {}
    for number in places[task.counts.flatten()].unique()[:_CLASSES].tolist():
        chosen = places == number
        value = _number(term, rows[chosen], targets[chosen])
        if value is not None:
            found[int(number)] = value
    return found


def _halves(term: Term, output: Tensor, target: Any, samples: int) -> dict[str, Any]:
    if not output.ndim or len(output) != samples or samples < 2:
        return {}
    middle = samples // 2
    parts = [
        _number(term, output[first:last], cut(target, first, last, samples, whole=False))
        for first, last in ((0, middle), (middle, samples))
    ]
    return {"half": parts[0], "other_half": parts[1]}


def _facts(output: Tensor, target: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"output_shape": tuple(output.shape), "output_std": _std(output)}
    if isinstance(target, Tensor) and target.numel() and not target.is_complex():
        numbers = target.float()
        facts |= {
            "target_shape": tuple(target.shape), "target_dtype": str(target.dtype).removeprefix("torch."),
            "target_low": float(numbers.min()), "target_high": float(numbers.max()), "target_std": _std(numbers),
        }  # fmt: skip
    return facts


def _std(values: Tensor) -> float:
    return float(values.float().std(correction=0)) if values.numel() else 0.0
