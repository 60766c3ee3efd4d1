"""The share of each term in the gradient."""

from ....probe.model_probe import ModelProbe
from ....probe.probe import Probe

SMALL = 1e-3  # share of the largest gradient below which a term has no say
_FAR = 0.05  # weights that differ by more are the cause


def small_terms(model: ModelProbe) -> tuple[str, dict[str, float]]:
    """Return the term with the largest gradient, and the shares of those that are less than ``SMALL`` of it.

    A term without any gradient is left out: it may be 0 at the start by its construction, or its output is detached,
    which other rules tell of.
    """
    norms = {label: norm for label, norm in model.term_grads.items() if norm > 0}
    if len(norms) < 2:
        return "", {}
    largest = max(norms, key=lambda label: norms[label])
    shares = {label: norm / norms[largest] for label, norm in norms.items()}
    return largest, {label: part for label, part in shares.items() if part < SMALL}


def weight_of(probe: Probe, label: str) -> float:
    """Return the factor of a term."""
    return next((abs(term.weight) for term in probe.settings.terms if term.label == label), 1.0)


def is_regularization(probe: Probe, label: str) -> bool:
    """Whether a term compares no output with a target, as a penalty on weights does: it may be as small as it likes."""
    term = next((term for term in probe.settings.terms if term.label == label), None)
    return term is None or not (term.output and term.target)


def is_by_weight(probe: Probe, label: str, largest: str) -> bool:
    """Whether a term is small as its weight is, rather than as the largest one is large."""
    weight, other = weight_of(probe, label), weight_of(probe, largest)
    return weight < _FAR * other and weight < 1 / max(other, 1e-12)
