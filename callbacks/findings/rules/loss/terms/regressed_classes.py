"""A loss over numbers where the target is a class.

Source: "wrong loss function" of N. Humbatova et al., 2020: a squared error in the place of a cross-entropy.
Cost: none beyond the labels that were read.
Risk: grades and counts are learned as numbers on purpose. So it is a warning only where a metric, or names, say that
these are classes; else a note, where the labels are the whole numbers from 0 on, and a few.
"""

from collections.abc import Iterator
from math import prod

import numpy as np
from numpy.typing import NDArray

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ..seen_terms import SeenTerm, seen_terms

_OF_NUMBERS = ("mse", "l1", "smooth_l1")
# Two classes may be 0 and 1 as numbers; so many different ones are counts.
_FEWEST, _MOST = 3, 50
# Labels of each class that were read, on average.
_PER_CLASS = 5


@rule("regressed-classes", at="model", needs=["loaders", "settings"], explained_by=["broadcast-shapes"])
def regressed_classes(probe: Probe) -> Iterator[Finding]:
    """Find terms that compare one number per sample with the number of a class."""
    train = probe.train
    for term in seen_terms(probe):
        if train is None or term.kind not in _OF_NUMBERS or not _is_one_number(term):
            continue
        labels = _labels(train) if term.target_key in ("", str(train.target_key)) else np.zeros(0)
        number = len(np.unique(labels))
        if not _FEWEST <= number <= _MOST or len(labels) < _PER_CLASS * number:
            continue
        told = _who_tells(probe, term)
        if (not told and labels.max() != number - 1) or not _are_targets(term, float(labels.max())):
            continue
        yield Finding(
            "warning" if told else "note",
            f"{term.name} of term {term.label!r} learns output {term.output_key or 'of the model'!r} as a number, and "
            f"its target {term.target_key or 'of the batch'!r} is one of {number} classes{told}: mixing up class 0 and "
            f"{labels.max():g} counts far more than mixing up neighbours",
            "give the model an output for each class, and use CrossEntropyLoss",
            Where(key=term.target_key or None),
            {"classes": number},
        )


def _is_one_number(term: SeenTerm) -> bool:
    shape = term.output.shape if term.output is not None else term.trial.output_shape if term.trial else ()
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _are_targets(term: SeenTerm, highest: float) -> bool:
    """Whether the loss was given such labels, one for each sample, as they were read."""
    trial = term.trial
    if trial is None or not trial.target_shape:
        return False
    return prod(trial.target_shape) == trial.target_shape[0] and 0 <= trial.target_low < trial.target_high <= highest


def _labels(train: LoaderProbe) -> NDArray[np.float64]:
    """Return the labels that were read, where they are whole numbers from 0 on."""
    known = train.known_labels()
    if not len(known):
        rows = [it.target for it in train.samples.values() if it.target is not None and it.target.size == 1]
        known = np.array([float(it.reshape(())) for it in rows])
    whole = len(known) and known.min() == 0 and bool((known == np.round(known)).all())
    return known.astype(np.float64) if whole else np.zeros(0)


def _who_tells(probe: Probe, term: SeenTerm) -> str:
    of_target = [it for it in probe.settings.metrics if it.target_key in (None, term.target_key)]
    by = next((it.callback for it in of_target if it.task == "multiclass" or (it.num_classes or 0) > 1), None)
    if by is not None:
        return f" by {by}"
    return " that have names" if len(probe.settings.class_names) > 1 else ""
