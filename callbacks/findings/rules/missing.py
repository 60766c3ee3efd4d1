"""Classes that one loader lacks and another has, or that none has."""

from collections.abc import Iterable, Iterator, Mapping

from ..probe.finding import Finding, Where
from ..probe.probe import Probe
from ..probe.wording import class_name, count
from .class_counts import ClassCounts

# A class of which eight samples were expected is absent by chance once in 3,000 times.
_EXPECTED = 8
# How likely it may be that all samples of a loader are of one class by chance.
_BY_CHANCE = 1 / 3000
_SHOWN = 5
_SOFTMAX = ("cross_entropy", "nll", "focal")  # criteria that have an output for each class from 0 on


def missing_classes_of(
    probe: Probe, counts: Mapping[str, ClassCounts], *, by_labels: bool = False
) -> Iterator[Finding]:
    """Yield a finding for each loader that lacks classes of the other, and one for those that nobody has.

    Args:
        probe: what was observed.
        counts: by loader.
        by_labels: whether labels tell how many classes there are where nobody says.
    """
    known = {key: one for key, one in counts.items() if one.samples}
    train = probe.train.key if probe.train is not None else ""
    for key, other in ((one, two) for one in known for two in known if one != two):
        absent = _absent(known[key], known[other])
        if absent and not _disjoint(known[key], known[other]):
            yield _finding(probe, key, other, absent, known, trains=key == train)
    yield from _nowhere(probe, known, _number(probe, known) if by_labels else 0)


def _absent(counts: ClassCounts, other: ClassCounts) -> list[int]:
    if len(counts.labels) == 1 and counts.labels < other.labels:
        (only,) = counts.labels
        if (other.counts[only] / other.samples) ** counts.samples < _BY_CHANCE:
            return sorted(other.labels - counts.labels)
    likely = _EXPECTED * other.samples / counts.samples
    return sorted(label for label in other.labels - counts.labels if other.counts[label] >= likely)


def _disjoint(one: ClassCounts, other: ClassCounts) -> bool:
    return len(one.labels & other.labels) * 10 < min(len(one.labels), len(other.labels))


def _finding(
    probe: Probe, key: str, other: str, absent: list[int], counts: Mapping[str, ClassCounts], *, trains: bool
) -> Finding:
    there = sum(counts[other].counts[label] for label in absent)
    seen = f"{counts[key].samples:,} samples" if counts[key].complete else f"{counts[key].samples:,} that were read"
    follows = "so the model cannot learn them" if trains else f"so the metrics of {key} say nothing of them"
    if len(absent) == 1:
        follows = follows.replace("them", "it")
    return Finding(
        "warning",
        f"{key} has no sample of {_classes(absent, probe.settings.class_names)} among its {seen}, while {other} has"
        f" {there:,}, {follows}",
        "split the data so that each part has every class",
        Where(key, probe.loaders[key].target_key),
        {"missing": absent, "samples": counts[key].samples},
    )


def _number(probe: Probe, counts: Mapping[str, ClassCounts]) -> int:
    """Return how many classes there are by the labels of all samples; 0 where they are not known, or no classes."""
    softmax = any(term.criterion.kind in _SOFTMAX for term in probe.settings.terms)
    several = any(not all(one.counts.values()) for one in counts.values())
    labels = set().union(*(one.counts for one in counts.values()))
    known = labels and min(labels) >= 0 and all(one.complete for one in counts.values())
    return max(labels) + 1 if known and (softmax or several) else 0


def _nowhere(probe: Probe, counts: Mapping[str, ClassCounts], by_labels: int) -> Iterator[Finding]:
    stated = probe.settings.num_classes or len(probe.settings.class_names)
    number = stated or by_labels
    whole = f"there are {number} classes" if stated else f"labels go up to {number - 1}"
    samples = sum(one.samples for one in counts.values())
    labels = set().union(*(one.labels for one in counts.values()))
    absent = sorted(set(range(number)) - labels)
    # Long tails of many classes lack some by chance: as many samples as make the others common have to be there.
    if not absent or len(labels) < 2 or samples < _EXPECTED * number or len(absent) >= len(labels):
        return
    keys, missing = ", ".join(counts), _classes(absent, probe.settings.class_names)
    yield Finding(
        "warning",
        f"none of the {samples:,} samples of {' and '.join(counts)} is of {missing}, though {whole}",
        "look at how labels are read, whether they begin at 0, and whether the model needs these classes",
        Where(keys, probe.loaders[next(iter(counts))].target_key, field="num_classes"),
        {"missing": absent, "samples": samples, "classes": number},
    )


def _classes(labels: Iterable[int], names: tuple[str, ...]) -> str:
    labels = list(labels)
    shown = [class_name(label, names) for label in labels[:_SHOWN]]
    more = len(labels) - len(shown)
    listed = ", ".join(shown) + (f" and {count(more, 'more', 'more')}" if more else "")
    return f"class {listed}" if len(labels) == 1 else f"classes {listed}"
