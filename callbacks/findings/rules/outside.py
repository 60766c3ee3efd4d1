"""Labels that are none of the classes."""

from collections import Counter
from collections.abc import Iterator, Sequence

from ..probe.finding import Finding, Where
from ..probe.loader_probe import LoaderProbe
from ..probe.probe import Probe
from ..probe.wording import count
from .class_counts import class_counts, ignored_labels

_SHOWN = 4


def labels_beyond(probe: Probe, number: int, classes: str) -> Iterator[Finding]:
    """Yield a finding for the loaders with labels below 0 or from ``number`` on; 0: it is not known."""
    ignored = ignored_labels(probe.settings)
    strict = any(term.criterion.kind in ("cross_entropy", "nll") for term in probe.settings.terms)
    found: list[tuple[LoaderProbe, Counter[int]]] = []
    for loader in probe.loaders.values():
        counts = class_counts(loader)
        outside = {
            label
            for label in counts.labels - ignored
            if (label < 0 and strict) or (number > 1 and label >= number)
        }  # fmt: skip
        if outside:
            found.append((loader, Counter({label: counts.counts[label] for label in outside})))
    if found:
        yield _finding([loader for loader, _ in found], sum((of for _, of in found), Counter()), classes, number)


def _finding(loaders: Sequence[LoaderProbe], counts: Counter[int], classes: str, number: int) -> Finding:
    outside, samples = sorted(counts), counts.total()
    names = [one.name for loader in loaders for one in loader.samples.values() if one.label in counts]
    shown = ", ".join(str(label) for label in outside[:_SHOWN]) + (", ..." if len(outside) > _SHOWN else "")
    against = f"while {classes}" if number and classes and max(outside) >= 0 else "which is no class"
    such = f" ({', '.join(names[:2])})" if names else ""
    keys = [loader.key for loader in loaders]
    return Finding(
        "error",
        f"{count(len(outside), 'label')} of {' and '.join(keys)} {'is' if len(outside) == 1 else 'are'} outside the"
        f" classes: {shown} on {count(samples, 'sample')}{such}, {against}",
        "map labels to 0 and up, or give the loss that label as ignore_index",
        Where(", ".join(keys), loaders[0].target_key, tuple(names[:8])),
        {"outside": outside[:20], "samples": samples},
    )
