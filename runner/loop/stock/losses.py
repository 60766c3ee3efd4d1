"""Remove stock callbacks that compute a loss of the runner's."""

from typing import Any

from catalyst import dl

from assay.callbacks.errors import UsageError
from assay.callbacks.support.unwrap import inside

from ..parts.run_view import RunView


def without_losses(runner: RunView) -> None:
    """Remove callbacks that compute a loss of the runner's once more; others are kept as metrics.

    Raises:
        UsageError: a callback would replace a loss of the runner's by another number.
    """
    # The runner logs a single term only as the loss itself.
    names = {"loss"} | ({term.label for term in runner.losses} if len(runner.losses) > 1 else set())
    kept: dict[str, dl.Callback] = {}
    for key, callback in runner.callbacks.items():
        inner = inside(callback)
        name = _computed_name(inner)
        if name not in names:
            kept[key] = callback
        elif not _is_same_loss(runner, inner, name):
            raise UsageError(
                f"{type(inner).__name__} computes {name!r}, which DictRunner computes from its losses and minimizes: "
                "leave it out and pass losses=[LossTerm(output, target, criterion, weight)] to DictRunner, or give it "
                "another metric_key, to log it as a metric."
            )
    runner.callbacks = kept


def _computed_name(callback: Any) -> str | None:
    """Return the name of the value that a stock callback computes per batch."""
    if isinstance(callback, dl.FunctionalMetricCallback):
        return str(callback.metric.metric_name)
    return str(callback.metric_key) if isinstance(callback, dl.MetricAggregationCallback) else None


def _is_same_loss(runner: RunView, callback: Any, name: str) -> bool:
    """Whether a callback computes exactly what the runner computes under that name."""
    if type(callback) is not dl.CriterionCallback:  # a subclass may compute anything
        return False
    # A single term of weight 1 is the loss itself, whatever its own name.
    terms = [term for term in runner.losses if term.label == name or (len(runner.losses) == 1 and term.weight == 1)]
    asked = (callback.input_key, callback.target_key, callback.criterion_key)
    return any((term.output, term.target, term.criterion) == asked for term in terms)
