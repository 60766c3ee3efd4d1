"""Images of training that validation has as well.

Source: the first check of A. Karpathy, "A Recipe for Training Neural Networks", 2019, and S. Kapoor and A. Narayanan,
"Leakage and the Reproducibility Crisis in Machine-Learning-based Science", 2023 (no split, duplicates).
Cost: digests of images that are read anyway.
Risk: constant images are alike without being a leak; they are left out. Overfitting a few batches on purpose validates
on what it trains on; the runner silences the rule then.
"""

from collections import defaultdict
from collections.abc import Iterator

from ...probe.finding import Finding, Severity, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule

# One image in a hundred moves an accuracy by a point at most; fewer are told as a note.
_WORTHLESS, _HARMFUL = 0.5, 0.01


@rule("shared-images", at="data", explained_by=["one-item"])
def shared_images(probe: Probe) -> Iterator[Finding]:
    """Find images that loaders of training and of validation share, by the digests of those read."""
    for train in (loader for loader in probe.loaders.values() if loader.trains):
        by_digest: dict[bytes, list[str]] = defaultdict(list)
        for sample in train.samples.values():
            by_digest[sample.digest].append(sample.name)
        for valid in (loader for loader in probe.loaders.values() if loader.key.startswith("valid")):
            yield from _shared(train, by_digest, valid)


def _shared(train: LoaderProbe, by_digest: dict[bytes, list[str]], valid: LoaderProbe) -> Iterator[Finding]:
    pictures = [sample for sample in valid.samples.values() if sample.shape and sample.high > sample.low]
    pairs = [(by_digest[sample.digest][0], sample.name) for sample in pictures if sample.digest in by_digest]
    if not pairs:
        return
    part = len(pairs) / len(pictures)
    severity: Severity = "error" if part >= _WORTHLESS else "warning" if part >= _HARMFUL else "note"
    shown = ", ".join(f"{one} = {other}" for one, other in pairs[:2])
    of = f"{len(pictures):,} images" if valid.complete else f"the {len(pictures):,} that were compared"
    meaning = "means nothing" if severity == "error" else "is too good"
    yield Finding(
        severity,
        f"{train.key} and {valid.key} share {len(pairs):,} of {of} ({shown}): the metric of {valid.key} {meaning}",
        "split the data so that each image is in one of them",
        Where(loader=f"{train.key}, {valid.key}", samples=tuple(other for _, other in pairs[:8])),
        {"shared": len(pairs), "compared": len(pictures)},
    )
