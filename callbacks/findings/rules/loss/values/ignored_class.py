"""A class that occurs and costs nothing.

Source: ``ignore_index`` 0 in the place of 255; a weight of 0; "missing class" of N. Humbatova et al., 2020.
Cost: one call of the criterion per class.
Risk: a class that is left out on purpose: one whose name says so, or that a metric ignores too, is left out here. A
loss that compares the samples of a batch says nothing of those of one class alone. Costs are those of outputs of 0,
which is the right answer to a label of 0 where outputs are probabilities, and to one of 1 where they are distances.
"""

from collections.abc import Iterator
from math import prod

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import class_name
from ..seen_terms import SeenTerm, seen_terms
from .occurring import occurring

_OF_CLASSES = ("cross_entropy", "nll", "focal", "bce_logits", "bce", "margin")
# The halves of a batch may differ a little in size.
_APART = 0.1
_VOID = ("void", "ignore", "unlabel", "unlabeled", "unknown", "background", "other", "padding", "none")


@rule("ignored-class", at="model", needs=["settings"], explained_by=["constant-loss", "loss-without-gradient"])
def ignored_class(probe: Probe) -> Iterator[Finding]:
    """Find classes with a weight of 0, those that are the criterion's ``ignore_index``, and those that cost nothing."""
    for term in seen_terms(probe):
        counts = occurring(probe, term)
        for index, why in _ignored(term).items():
            if counts.get(index) and not _on_purpose(probe, index):
                yield Finding(
                    "warning",
                    f"class {class_name(index, probe.settings.class_names)} of {term.target_key or 'the target'!r} "
                    f"occurs and is never taught: {why} in term {term.label!r}",
                    "give every class a weight above 0, and set ignore_index to a value that no class has, as 255 or "
                    "-100",
                    Where(key=term.target_key or None),
                    {"class": index, "share": counts[index]},
                )


def _ignored(term: SeenTerm) -> dict[int, str]:
    weights = term.criterion.class_weights or ()
    found = {index: "its weight is 0" for index, weight in enumerate(weights) if weight == 0 and any(weights)}
    ignored = term.criterion.ignore_index
    if ignored is not None and 0 <= ignored < term.classes:
        found[ignored] = f"it is the ignore_index {ignored}"
    costs = term.trial.of_class if term.trial is not None else {}
    by_class = term.kind in _OF_CLASSES or (not term.kind and _is_mean(term))
    if by_class and max(costs.values(), default=0.0) > 0:
        free = [index for index, cost in costs.items() if cost == 0 and not _is_answered(term, index)]
        found = {**dict.fromkeys(free, "it costs nothing"), **found}
    return found


def _is_answered(term: SeenTerm, label: int) -> bool:
    """Return whether outputs of 0 may be the right answer: to a label of 0 by probabilities, to others by distances."""
    trial = term.trial
    if trial is None or prod(trial.output_shape) != prod(trial.target_shape):
        return False
    return not term.kind or (label == 0 and term.kind in ("bce", "focal"))


def _is_mean(term: SeenTerm) -> bool:
    """Return whether the value of a batch is the mean, or the sum, of those of its halves."""
    trial = term.trial
    if trial is None or trial.actual is None or trial.half is None or trial.other_half is None:
        return False
    both = trial.half + trial.other_half
    return min(abs(both / 2 - trial.actual), abs(both - trial.actual)) <= _APART * abs(trial.actual)


def _on_purpose(probe: Probe, index: int) -> bool:
    names = probe.settings.class_names
    named = index < len(names) and any(word in names[index].lower() for word in _VOID)
    return named or any(metric.ignore_index == index for metric in probe.settings.metrics)
