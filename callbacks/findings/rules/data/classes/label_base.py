"""Labels that begin at 1 where the model's classes begin at 0.

Source: "wrong labels encoding" of N. Humbatova et al., 2020; files written by MATLAB, COCO and people count from 1.
Cost: a count of labels.
Risk: class 0 may be missing for another reason; the sentence says so.
"""

from collections import defaultdict
from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.settings_probe import SettingsProbe
from ...class_counts import ClassCounts, class_counts, has_classes

# With fewer samples for each class, class 0 may be absent by chance.
_PER_CLASS = 8


@rule("label-base", at="data", explained_by=["one-item"])
def label_base(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose labels begin one above the model's classes, or above those of another loader."""
    if not has_classes(probe.settings) or probe.settings.task in ("binary", "multilabel"):
        return
    counts = {key: class_counts(loader) for key, loader in probe.loaders.items() if loader.target_key}
    counts = {key: one for key, one in counts.items() if len(one.labels) > 1 and one.samples >= _PER_CLASS}
    shifted = [key for key, one in counts.items() if begins_at_one(one, class_number(probe.settings))]
    by_span: dict[tuple[int, int], list[str]] = defaultdict(list)
    for key in shifted or _above_others(counts):
        by_span[min(counts[key].labels), max(counts[key].labels)].append(key)
    for keys in by_span.values():
        yield _finding(probe, keys, counts)


def class_number(settings: SettingsProbe) -> int:
    """Return how many classes there are; 0 where nobody says."""
    return settings.num_classes or len(settings.class_names)


def begins_at_one(counts: ClassCounts, number: int) -> bool:
    """Return whether labels run from 1 to the number of classes, or to the last class without a sample of class 0."""
    low, high = min(counts.labels), max(counts.labels)
    enough = counts.samples >= _PER_CLASS * number and len(counts.labels) >= number - 1
    return low == 1 and number > 2 and (high == number or (high == number - 1 and enough))


def _above_others(counts: dict[str, ClassCounts]) -> list[str]:
    """Return loaders whose labels are those of another one plus 1."""
    return [
        key
        for key, one in counts.items()
        if any(one.labels == {label + 1 for label in other.labels} and 0 in other.labels for other in counts.values())
    ]


def _finding(probe: Probe, keys: list[str], counts: dict[str, ClassCounts]) -> Finding:
    key = keys[0]
    low, high, number = min(counts[key].labels), max(counts[key].labels), class_number(probe.settings)
    base = {other: min(one.labels) for other, one in counts.items() if min(one.labels) == 0}
    if number and high == number:
        against = f"while the model's {number} classes are 0 to {number - 1}"
    elif base:
        against = f"while those of {next(iter(base))} begin at 0"
    else:
        against = f"while the model's {number} classes begin at 0, so class 0 is never seen"
    return Finding(
        "error" if number and high == number else "warning",
        f"labels of {' and '.join(keys)} begin at {low} and end at {high}, {against}",
        "subtract 1 from the labels, unless class 0 is missing from the data",
        Where(", ".join(keys), probe.loaders[key].target_key),
        {"low": low, "high": high, "classes": number},
    )
