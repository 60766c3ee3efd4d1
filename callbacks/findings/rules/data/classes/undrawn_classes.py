"""Classes that a data set holds and its sampler never draws.

Source: weights of a ``WeightedRandomSampler`` that are 0, or of another order than the samples; a list of indices.
Cost: a count of labels by the order of two epochs; of data without a list of labels, up to 64 items that are not drawn.
Risk: a sampler with few draws leaves out a rare class by chance. A class counts as left out only where its share of the
draws would have held it eight times. Classes are left out on purpose too: they count only where validation has them, or
where nobody validates, the model has an output for them and most of the data set is drawn.
"""

from collections import Counter
from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import class_name
from ...class_counts import has_classes
from .label_base import class_number

_EXPECTED = 8  # draws; a class with so many comes to none once in 3,000 samplers
_SHARE_DRAWN = 0.5  # of the data set, below which the sampler takes a part of it
_FEW = 0.1  # of the data set, below which classes are the least that the sampler leaves out; see skipped-samples


@rule("undrawn-classes", at="data", explained_by=["one-item"])
def undrawn_classes(probe: Probe) -> Iterator[Finding]:
    """Find classes of which a training loader has samples and draws none."""
    if not has_classes(probe.settings):
        return
    for loader in probe.loaders.values():
        if not loader.trains or 0 < loader.drawable < _FEW * loader.length:
            continue
        lost, has = _by_labels(loader) if loader.labels is not None else _by_samples(loader)
        lost = [label for label in lost if _wanted(probe, loader, label)]
        if lost:
            yield _finding(probe, loader, lost, has)


def _by_labels(loader: LoaderProbe) -> tuple[list[int], Counter[int]]:
    """Return the classes that two epochs do not hold, and how many samples of each class there are."""
    labels = [] if loader.labels is None else loader.labels.tolist()
    order, has = [*loader.order, *loader.later_order], Counter(labels)
    if not order or max(order) >= len(labels):
        return [], has
    drawn = {labels[index] for index in order}
    return [it for it, many in has.items() if it not in drawn and many * len(order) >= _EXPECTED * len(labels)], has


def _by_samples(loader: LoaderProbe) -> tuple[list[int], Counter[int]]:
    """Return the same by the labels of samples that were read, of those drawn and of those left out."""
    drawn = {sample.label for sample in loader.samples.values()}
    part = (loader.length - loader.drawable) / max(1, len(loader.left_out))
    has = Counter({it: round(part * many) for it, many in Counter(loader.left_out.values()).items()})
    read = len(loader.samples)
    return [it for it, many in has.items() if it not in drawn and many * read >= _EXPECTED * loader.length], has


def _wanted(probe: Probe, loader: LoaderProbe, label: int) -> bool:
    """Whether the run means to learn a class."""
    valid = probe.valid
    labels = set() if valid is None else _labels_given(valid)
    if labels:
        return label in labels and bool(_labels_given(loader) & labels)
    whole = len(loader.order) >= _SHARE_DRAWN * loader.length
    return whole and label < (class_number(probe.settings) or label + 1)


def _labels_given(loader: LoaderProbe) -> set[int | None]:
    # A list of all labels may be one of several loaders, each of which draws a part.
    if loader.labels is not None and loader.drawable in (0, loader.length):
        return {*loader.labels.tolist()}
    return {sample.label for sample in loader.samples.values()} - {None}


def _finding(probe: Probe, loader: LoaderProbe, lost: list[int], has: Counter[int]) -> Finding:
    names = ", ".join(class_name(index, probe.settings.class_names) for index in sorted(lost)[:5])
    of = sum(has[label] for label in lost)
    about = "" if loader.labels is not None or len(loader.left_out) == loader.length - loader.drawable else "about "
    return Finding(
        "warning",
        f"the sampler of {loader.key} ({loader.sampler}) never draws class {names}, of which the data set has {about}"
        f"{of:,} of {loader.length:,} samples: the model cannot learn it",
        "give the sampler weights in the order of the samples, and none of 0, or the indices of all classes",
        Where(loader=loader.key, key=loader.target_key),
        {"classes": sorted(lost), "samples": of, "draws": len(loader.order)},
    )
