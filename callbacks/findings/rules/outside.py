"""Labels that are none of the classes."""

from collections.abc import Iterator

from ..probe.finding import Finding, Where
from ..probe.loader_probe import LoaderProbe
from ..probe.probe import Probe
from ..probe.wording import count
from .class_counts import class_counts, ignored_labels

_SHOWN = 4


def labels_beyond(probe: Probe, number: int, classes: str) -> Iterator[Finding]:
    """Yield a finding for each loader with labels below 0 or from ``number`` on; 0: it is not known."""
    ignored = ignored_labels(probe.settings)
    strict = any(term.criterion.kind in ("cross_entropy", "nll") for term in probe.settings.terms)
    for loader in probe.loaders.values():
        counts = class_counts(loader)
        outside = sorted(
            label
            for label in counts.labels - ignored
            if (label < 0 and strict) or (number > 1 and label >= number)
        )  # fmt: skip
        if outside:
            yield _finding(loader, outside, sum(counts.counts[label] for label in outside), classes if number else "")


def _finding(loader: LoaderProbe, outside: list[int], samples: int, classes: str) -> Finding:
    names = [one.name for one in loader.samples.values() if one.label in outside]
    shown = ", ".join(str(label) for label in outside[:_SHOWN]) + (", ..." if len(outside) > _SHOWN else "")
    against = f"while {classes}" if classes and max(outside) >= 0 else "which is no class"
    such = f" ({', '.join(names[:2])})" if names else ""
    return Finding(
        "error",
        f"{count(len(outside), 'label')} of {loader.key} {'is' if len(outside) == 1 else 'are'} outside the classes:"
        f" {shown} on {count(samples, 'sample')}{such}, {against}",
        "map labels to 0 and up, or give the loss that label as ignore_index",
        Where(loader.key, loader.target_key, tuple(names[:8])),
        {"outside": outside[:20], "samples": samples},
    )
