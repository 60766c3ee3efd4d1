"""More or fewer outputs than there are classes.

Source: the last layer of a pretrained net left at 1,000 classes; one output with a softmax; off by one at a background.
Cost: none.
Risk: classes that are not in the samples that were read; so the number is compared where somebody has stated it, or
where every label is known. A background class that has no label is one output more: next to the number of labels, one
more is a note.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Severity, Where
from ....probe.model_probe import OutputProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.settings_probe import TermProbe

_OF_CLASSES = ("cross_entropy", "nll", "focal")
# Below, a class may be missing by chance.
_ENOUGH_PER_CLASS = 10


@rule("output-count", at="model", needs=["model", "settings"], explained_by=[
    "label-base", "labels-outside", "labels-beyond-outputs", "classes-apart",
])  # fmt: skip
def output_count(probe: Probe) -> Iterator[Finding]:
    """Compare the outputs of each term over classes with the classes there are."""
    outputs = probe.model.outputs if probe.model else {}
    for term in probe.settings.terms:
        output = outputs.get(term.output)
        if output is not None and term.criterion.kind in _OF_CLASSES and len(output.shape) > 1:
            yield from _compared(probe, term, output)


def _compared(probe: Probe, term: TermProbe, output: OutputProbe) -> Iterator[Finding]:
    outputs = output.shape[1]
    if outputs == 1 and term.criterion.kind != "focal":
        yield _found(term, "error", "has one number per sample, and a softmax of one number is always 1", outputs, 2)
        return
    known = _stated(probe, term) or (_labelled(probe, term) if len(output.shape) == 2 else None)
    if known is None or known == outputs:
        return
    one_more = outputs == known + 1 and not _stated(probe, term)
    severity: Severity = "note" if one_more else "warning"
    yield _found(term, severity, f"has {outputs:,} numbers per sample, and there are {known:,} classes", outputs, known)


def _found(term: TermProbe, severity: Severity, what: str, outputs: int, classes: int) -> Finding:
    return Finding(
        severity,
        f"output {term.output!r} {what}",
        "give the last layer as many outputs as there are classes" if outputs > 1 else
        "give the last layer two outputs, or use binary cross entropy",
        Where(key=term.output, field="num_classes"),
        {"outputs": outputs, "classes": classes},
    )  # fmt: skip


def _stated(probe: Probe, term: TermProbe) -> int | None:
    """Return the number of classes that a metric of this output was told, or the run's where there is one output."""
    told = [it.num_classes for it in probe.settings.metrics if it.output_key == term.output and it.num_classes]
    if told:
        return told[0]
    alone = len({it.output for it in probe.settings.terms if it.criterion.kind in _OF_CLASSES}) == 1
    return (probe.settings.num_classes or len(probe.settings.class_names) or None) if alone else None


def _labelled(probe: Probe, term: TermProbe) -> int | None:
    """Return the number of classes by the largest label, where every label of training is known."""
    train = probe.train
    if train is None or train.target_key != term.target or not (train.complete or train.labels is not None):
        return None
    labels = train.known_labels()
    labels = labels[labels != term.criterion.ignore_index]
    # Labels from 1 on are told of by the rules on labels.
    if not len(labels) or labels.min() != 0:
        return None
    classes = int(labels.max()) + 1
    return classes if len(labels) >= _ENOUGH_PER_CLASS * classes else None
