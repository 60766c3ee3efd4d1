"""The terms of the loss, as a runner declares them or as Catalyst's callbacks compute them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from catalyst import dl

from ....errors import UsageError
from ....support.runner_view import callbacks_of, criterion_of, loss_terms
from ....support.unwrap import inside
from ...probe.settings_probe import CriterionProbe, TermProbe
from .criteria import observe_criterion


def observe_terms(runner: dl.IRunner) -> tuple[TermProbe, ...]:
    """Return the terms of the loss; none where the runner computes it in its own ``handle_batch``."""
    declared = loss_terms(runner)
    if declared is not None:
        criterion = criterion_of(runner)
        return tuple(_declared(term, criterion) for term in declared)
    return _of_callbacks([inside(callback) for callback in callbacks_of(runner)], criterion_of(runner))


def _declared(term: Any, criterion: Any) -> TermProbe:
    own = _picked(term, criterion)
    # One that computes its value itself may do anything with the criterion, and with others besides.
    known = type(term).compute.__qualname__ == "LossTerm.compute" if hasattr(type(term), "compute") else True
    probe = observe_criterion(own) if known else CriterionProbe(type(term).__name__)
    return TermProbe(term.label, term.output, term.target, float(term.weight), probe)


def _picked(term: Any, criterion: Any) -> Any:
    try:
        return term.pick_criterion(criterion)
    except UsageError:  # the run says so itself, in its first step
        return None


def _of_callbacks(callbacks: list[Any], criterion: Any) -> tuple[TermProbe, ...]:
    computed = {one.metric.metric_name: one for one in callbacks if isinstance(one, dl.CriterionCallback)}
    minimized = {one.metric_key for one in callbacks if isinstance(one, dl.BackwardCallback | dl.OptimizerCallback)}
    found = []
    for name, weight in _weights_of(callbacks, computed, minimized).items():
        one = computed[name]
        own = criterion.get(one.criterion_key) if isinstance(criterion, Mapping) else criterion
        # Several keys go to the criterion by name, and a term has one of each.
        if isinstance(one.input_key, str) and isinstance(one.target_key, str):
            found.append(TermProbe(name, one.input_key, one.target_key, weight, observe_criterion(own)))
    return tuple(found)


def _weights_of(callbacks: list[Any], computed: Mapping[str, Any], minimized: set[str]) -> dict[str, float]:
    """Return the factor of each criterion in what is minimized, by its name."""
    weights = {name: 1.0 for name in computed if name in minimized}
    for one in callbacks:
        if isinstance(one, dl.MetricAggregationCallback) and one.metric_key in minimized:
            names = [one.metrics] if isinstance(one.metrics, str) else one.metrics or computed
            factors = one.metrics if isinstance(one.metrics, Mapping) else dict.fromkeys(names, 1.0)
            total = sum(factors.values()) if "mean" in str(one.mode) else 1.0
            weights |= {name: one.multiplier * factors[name] / total for name in computed if name in factors}
    return weights


def clips_of(callbacks: list[Any]) -> tuple[float | None, float | None]:
    """Return the largest norm and the largest value that Catalyst's callbacks clip gradients to."""
    norm, value = None, None
    for one in map(inside, callbacks):
        clip = getattr(one, "grad_clip_fn", None)
        if isinstance(clip, partial):
            norm = clip.keywords.get("max_norm", norm)
            value = clip.keywords.get("clip_value", value)
    return norm, value


def clips_in_callbacks(callbacks: list[Any]) -> bool:
    """Whether a callback clips gradients in any way, before the optimizer gets them."""
    return any(getattr(inside(one), "grad_clip_fn", None) is not None for one in callbacks)
