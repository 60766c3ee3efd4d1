"""A loss that reads another key than the metrics.

Source: two labels of one sample (fine and coarse, this task and that); a metric that was copied from another run.
Cost: none beyond what was read.
Risk: a loss on changed labels (MixUp) beside a metric on real ones. Targets are compared as the data set gives them,
before a batch is mixed; and an output that a metric reads may be made of the one that is trained.
"""

from collections.abc import Iterator

import numpy as np

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.model_probe import OutputProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.settings_probe import MetricProbe, TermProbe

# Labels that say the same by other numbers differ as well; so it is told how many differ, and half have to.
_DIFFER = 0.3
# An output made of another one ranks its classes alike.
_SAME_RANK = 0.9


@rule("loss-metric-keys", at="model", needs=["settings", "model"])
def loss_metric_keys(probe: Probe) -> Iterator[Finding]:
    """Compare the keys of each term with those of the metrics of the same output or target."""
    told: set[tuple[str | None, str | None]] = set()
    for metric in probe.settings.metrics:
        keys = (metric.output_key, metric.target_key)
        if keys in told or None in keys:
            continue
        finding = _other_target(probe, metric) or _other_output(probe, metric)
        if finding is not None:
            told.add(keys)
            yield finding


def _other_target(probe: Probe, metric: MetricProbe) -> Finding | None:
    terms = [term for term in probe.settings.terms if term.output == metric.output_key]
    if not terms or any(term.target == metric.target_key for term in terms):
        return None
    crossed = any(term.target == metric.target_key for term in probe.settings.terms)
    differ = _difference(probe.train, terms[0].target, str(metric.target_key))
    if not crossed and (differ is None or differ < _DIFFER):
        return None
    how = f" ({differ:.0%} of the samples differ)" if differ is not None else ""
    return Finding(
        "warning",
        f"term {terms[0].label!r} compares output {metric.output_key!r} with {terms[0].target!r}, and "
        f"{metric.callback} with {metric.target_key!r}{how}: the metric measures what is not trained",
        "give the loss and the metric the same target_key",
        Where(key=metric.target_key),
        {"loss": terms[0].target, "metric": metric.target_key, "differ": differ},
    )


def _difference(train: LoaderProbe | None, one: str, other: str) -> float | None:
    """Return the share of samples whose two labels differ; None where they were not both read."""
    if train is None:
        return None
    pairs = []
    for sample in train.samples.values():
        named = {**sample.targets, **({} if sample.target is None else {str(train.target_key): sample.target})}
        if one in named and other in named and named[one].size == named[other].size == 1:
            pairs.append(named[one].reshape(()) != named[other].reshape(()))
    return float(np.mean(pairs)) if pairs else None


def _other_output(probe: Probe, metric: MetricProbe) -> Finding | None:
    outputs = probe.model.outputs if probe.model is not None else {}
    term = next((term for term in probe.settings.terms if term.target == metric.target_key), None)
    read = outputs.get(str(metric.output_key))
    trained = outputs.get(term.output) if term is not None else None
    if term is None or read is None or trained is None or read.has_loss or read.shape != trained.shape:
        return None
    return _untrained(term, metric) if not _made_of(read, trained) else None


def _made_of(read: OutputProbe, trained: OutputProbe) -> bool:
    if read.values is None or trained.values is None or read.values.shape != trained.values.shape:
        return True
    if read.values.shape[1] < 2:
        return abs(float(np.corrcoef(read.values[:, 0], trained.values[:, 0])[0, 1])) > _SAME_RANK
    return float((read.values.argmax(1) == trained.values.argmax(1)).mean()) > _SAME_RANK


def _untrained(term: TermProbe, metric: MetricProbe) -> Finding:
    return Finding(
        "warning",
        f"term {term.label!r} trains output {term.output!r}, and {metric.callback} reads output "
        f"{metric.output_key!r}, which no term trains",
        "give the loss and the metric the same output_key",
        Where(key=metric.output_key),
        {"loss": term.output, "metric": metric.output_key},
    )
