"""One image with several labels.

Source: C. G. Northcutt et al., "Pervasive Label Errors in Test Sets", 2021; duplicates of cleanlab's Datalab.
Cost: digests of images that are read anyway.
Risk: rows of a table and binary images of a few pixels may be alike by chance; such inputs are not compared.
"""

from collections import defaultdict
from collections.abc import Iterator

from ...probe.finding import Finding, Severity, Where
from ...probe.loader_probe import SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import class_name, count, some
from ..class_counts import has_classes
from ..pictures import pictures
from ..sample_labels import label_of, labelled_groups

# With every other image in conflict, labels say nothing of images.
_WORTHLESS = 0.5


@rule("conflicting-labels", at="data", explained_by=["one-item"])
def conflicting_labels(probe: Probe) -> Iterator[Finding]:
    """Find images that occur with different labels, within a loader or in two."""
    if not has_classes(probe.settings):
        return
    groups: dict[bytes, list[tuple[str, SampleProbe]]] = defaultdict(list)
    for loader in probe.loaders.values():
        for sample in pictures(loader):
            if label_of(sample, probe.settings) is not None:
                groups[sample.digest].append((loader.key, sample))
    torn = [of for of in groups.values() if len({label_of(sample, probe.settings) for _, sample in of}) > 1]
    if torn:
        yield _finding(probe, torn, len(groups))


def _finding(probe: Probe, torn: list[list[tuple[str, SampleProbe]]], images: int) -> Finding:
    keys = sorted({key for group in torn for key, _ in group}, key=list(probe.loaders).index)
    group = torn[0]
    first = label_of(group[0][1], probe.settings)
    other = next(sample for _, sample in group if label_of(sample, probe.settings) != first)
    shown = [f"{sample.name} is {_text(probe, sample)}" for sample in (group[0][1], other)]
    names = tuple(sample.name for group in torn for _, sample in group)
    severity: Severity = "error" if len(torn) >= _WORTHLESS * images else "warning"
    return Finding(
        severity,
        f"{count(len(torn), 'image')} of {' and '.join(keys)} {'has' if len(torn) == 1 else 'have'} several labels"
        f" for the same pixels ({' but '.join(shown)})",
        f"look at {some(names[:2])}, and keep one label for each image",
        Where(", ".join(keys), samples=names[:8]),
        {"images": len(torn), "compared": images},
        groups=labelled_groups(torn, probe.settings),
    )


def _text(probe: Probe, sample: SampleProbe) -> str:
    label = label_of(sample, probe.settings) or ()
    return class_name(label[0], probe.settings.class_names) if len(label) == 1 else str(list(label))
