"""Images of validation that differ from one of training by almost nothing.

Source: B. Barz and J. Denzler, "Do We Train on Test Data? Purging CIFAR of Near-Duplicates", 2020.
Cost: a product of two matrices of at most 2,000 x 256 numbers.
Risk: digits, scans and faces look alike without being copies. A copy is therefore not only near, but several times
nearer than the next image; and few are told as a note.
"""

from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Severity, Where
from ...probe.loader_probe import LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import share
from ..pictures import names_of, pictures, vectors

_MOST = 2000
# Distance between images of length 1: what a second JPEG, a new size or a slight shift makes of one image stays below.
_NEAR = 0.1
# Copies are so many times nearer than the image that comes next.
_TIMES = 3.0
_HARMFUL = 0.1
_FEWEST = 20


@rule("near-duplicates", at="data", explained_by=["one-item", "shared-images"])
def near_duplicates(probe: Probe) -> Iterator[Finding]:
    """Find images of validation that are near copies of images of training, by their small grey areas."""
    train, valid = probe.train, probe.valid
    if train is not None and valid is not None:
        yield from _of_loaders(train, valid)


def _of_loaders(train: LoaderProbe, valid: LoaderProbe) -> Iterator[Finding]:
    digests = {sample.digest for sample in train.samples.values()} | set(train.again.values())
    ones = [sample for sample in pictures(train) if sample.small is not None][:_MOST]
    seen = [sample for sample in pictures(valid) if sample.small is not None][:_MOST]
    others = [sample for sample in seen if sample.digest not in digests]
    if len(ones) < _FEWEST or len(others) < _FEWEST:
        return
    likeness = vectors(others) @ vectors(ones).T
    nearest = likeness.argmax(1)
    top = np.sqrt(np.maximum(2 - 2 * np.partition(likeness, -2, axis=1)[:, -2:], 1e-12))
    near = np.flatnonzero((top[:, 1] < _NEAR) & (_TIMES * top[:, 1] < top[:, 0]))
    if not len(near):
        return
    severity: Severity = "warning" if len(near) >= _HARMFUL * len(seen) else "note"
    shown = ", ".join(f"{others[row].name} is near {ones[nearest[row]].name}" for row in near[:2])
    yield Finding(
        severity,
        f"{len(near):,} of {len(seen):,} images of {valid.key} ({share(len(near), len(seen))}) are almost copies of"
        f" images of {train.key} ({shown})",
        "look at these pairs, and split the data so that copies of an image are on one side",
        Where(f"{train.key}, {valid.key}", samples=names_of([others[row] for row in near[:8]])),
        {"near": len(near), "compared": len(seen)},
    )
