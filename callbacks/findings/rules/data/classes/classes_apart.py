"""Training and validation that have no class in common, of a model that tells these classes apart.

Source: a split in the order of folders or of a sorted list; "missing classes" of N. Humbatova et al., 2020.
Cost: a count of labels.
Risk: retrieval and metric learning validate on other classes on purpose. Their heads have no output for these, so only
a softmax with an output for each class of validation counts.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ...class_counts import ClassCounts, class_counts

_OF_CLASSES = ("cross_entropy", "nll", "focal")
# Of fewer samples, or of a single class, nothing is said.
_FEWEST, _FEWEST_CLASSES = 20, 2


@rule("classes-apart", at="model", needs=["loaders", "model"], explained_by=["one-item"])
def classes_apart(probe: Probe) -> Iterator[Finding]:
    """Find validation of classes that the model has outputs for, and training has none of."""
    train, valid = probe.train, probe.valid
    if train is None or valid is None or train.target_key != valid.target_key:
        return
    taught, asked = class_counts(train), class_counts(valid)
    output = _output_for(probe, train.target_key, taught, asked)
    if output is None or taught.labels & asked.labels:
        return
    yield Finding(
        "error",
        f"{train.key} and {valid.key} have no class in common: {_classes(taught)} are in {train.key} and "
        f"{_classes(asked)} in {valid.key}, while output {output!r} has a number for each of them, so what is asked "
        "for is never taught",
        "split the data so that each part has every class, at random within each class",
        Where(f"{train.key}, {valid.key}", train.target_key),
        {"train": sorted(taught.labels), "valid": sorted(asked.labels)},
    )


def _output_for(probe: Probe, target: str | None, taught: ClassCounts, asked: ClassCounts) -> str | None:
    """Return the output that has a number for each class of both; None where there is none."""
    if min(taught.samples, asked.samples) < _FEWEST or min(len(taught.labels), len(asked.labels)) < _FEWEST_CLASSES:
        return None
    outputs = probe.model.outputs if probe.model else {}
    terms = [it for it in probe.settings.terms if it.target == target and it.criterion.kind in _OF_CLASSES]
    shapes = {it.output: outputs[it.output].shape for it in terms if it.output in outputs}
    most = max(taught.labels | asked.labels)
    return next((key for key, shape in shapes.items() if len(shape) == 2 and shape[1] > most), None)


def _classes(counts: ClassCounts) -> str:
    labels = sorted(counts.labels)
    if labels == [*range(labels[0], labels[-1] + 1)]:
        return f"classes {labels[0]} to {labels[-1]}"
    return f"{len(labels)} classes ({', '.join(map(str, labels[:3]))}, ...)"
