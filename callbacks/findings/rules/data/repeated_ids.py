"""Ids that a loader has twice.

Source: lists of files that are joined twice, or names that repeat in several folders.
Cost: none beyond the ids.
Risk: rare classes are listed several times on purpose, and so are whole data sets: both are told as a note. Ids that
name different images are a note as well, as only tables and pictures of samples suffer.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator

from ...probe.finding import Finding, Severity, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import some
from ..pictures import is_picture, vectors

# Repeats below this share change no figure that anyone reads.
_SHARE = 0.005
# Two views of one image, with an augmentation between them, are far more alike than this.
_ALIKE = 0.5


@rule("repeated-ids", at="data", explained_by=["one-item"])
def repeated_ids(probe: Probe) -> Iterator[Finding]:
    """Find ids that several samples of one loader have."""
    for loader in probe.loaders.values():
        times = Counter(loader.ids)
        repeated = [name for name, number in times.items() if number > 1]
        if repeated and sum(times[name] - 1 for name in repeated) >= _SHARE * len(loader.ids):
            yield _finding(loader, times, repeated)


def _finding(loader: LoaderProbe, times: Counter[str], repeated: list[str]) -> Finding:
    more = sum(times[name] - 1 for name in repeated)
    alike = _same_images(loader, set(repeated))
    severity: Severity = "warning"
    what = f"{loader.key} has {len(repeated):,} of its {len(times):,} ids more than once ({some(repeated)})"
    do = "list each sample once"
    if alike is False:
        severity, do = "note", "give each sample an id of its own, such as its path with the folder"
        what += ", for different images"
    elif len(set(times.values())) == 1 or _balances(loader, times):
        severity, do = "note", "see whether samples are repeated on purpose"
    return Finding(
        severity,
        f"{what}: {more:,} of its {len(loader.ids):,} samples are repeats",
        do,
        Where(loader.key, samples=tuple(repeated[:8])),
        {"repeated": len(repeated), "repeats": more, "samples": len(loader.ids)},
    )


def _same_images(loader: LoaderProbe, repeated: set[str]) -> bool | None:
    groups = defaultdict(list)
    for sample in loader.samples.values():
        if sample.name in repeated and sample.small is not None and is_picture(sample):
            groups[sample.name].append(sample)
    pairs = [vectors(group[:2]) for group in groups.values() if len(group) > 1]
    if not pairs:
        return None
    return sum(float(one @ other) > _ALIKE for one, other in pairs) >= len(pairs) / 2


def _balances(loader: LoaderProbe, times: Counter[str]) -> bool:
    if loader.labels is None or len(loader.labels) != len(loader.ids):
        return False
    of_name = dict(zip(loader.ids, loader.labels.tolist(), strict=True))
    once, whole = Counter(of_name.values()), Counter(loader.labels.tolist())
    ratios = [max(counts.values()) / min(counts.values()) for counts in (once, whole)]
    return len(once) > 1 and ratios[1] < 0.7 * ratios[0]
