"""Images of training that validation has as well.

Source: the first check of A. Karpathy, "A Recipe for Training Neural Networks", 2019, and S. Kapoor and A. Narayanan,
"Leakage and the Reproducibility Crisis in Machine-Learning-based Science", 2023 (no split, duplicates).
Cost: digests of images that are read anyway, of which some seem to be shared by their ids or their places in one data
set; where training augments, the small images of samples with the same id.
Risk: constant images are alike without being a leak; they are left out, as are rows of a table. An id alone proves
nothing (``cat/1.png`` of both folders): it counts where images of one id are far more alike than others of their class.
Overfitting a few batches on purpose validates on what it trains on; the runner silences the rule then.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...probe.finding import Finding, Severity, Where
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.overlap_probe import OverlapProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ..pictures import is_picture, pictures, vectors

# One image in a hundred moves an accuracy by a point at most; fewer are told as a note.
_WORTHLESS, _HARMFUL = 0.5, 0.01
# Ids are believed from so many pairs on, ...
_FEWEST_PAIRS = 12
# ... where the correlation of images of one id is so large by itself, closes so much of the gap that two images of one
# class leave to 1, and is so many of its own errors above theirs.
_CORRELATION, _CLOSES, _ERRORS = 0.5, 0.3, 6.0

# Of samples that seem to be the same, by ids or places, so many have the same image, ...
_ALL = 0.9
# ... of so many that were read in both loaders.
_FEWEST_ALIKE = 3

# Areas, of 16 along a side, by which an augmentation may shift an image.
_SHIFT = 2

Pair = tuple[SampleProbe, SampleProbe]


@rule("shared-images", at="data", explained_by=["one-item"])
def shared_images(probe: Probe) -> Iterator[Finding]:
    """Find images that loaders of training and of validation share, by the digests and the ids of those read."""
    for train in (loader for loader in probe.loaders.values() if loader.trains):
        by_digest: dict[bytes, SampleProbe] = {}
        for sample in pictures(train):
            for digest in (sample.digest, train.again.get(sample.index, sample.digest)):
                by_digest.setdefault(digest, sample)
        for valid in (loader for loader in probe.loaders.values() if loader.key.startswith("valid")):
            yield from _shared(train, by_digest, valid)


def _shared(train: LoaderProbe, by_digest: Mapping[bytes, SampleProbe], valid: LoaderProbe) -> Iterator[Finding]:
    seen = pictures(valid)
    pairs = [(by_digest[sample.digest], sample) for sample in seen if sample.digest in by_digest]
    if train.augments:
        matched = {sample.index for _, sample in pairs}
        others = [sample for sample in seen if sample.index not in matched]
        pairs += _of_one_id(train, others)
    shared, compared = len(pairs), len(seen)
    overlap = valid.overlaps.get(train.key)
    if overlap is not None and shared < overlap.count and (proven := _proven(train, valid, overlap)):
        pairs, shared, compared = proven, overlap.count, overlap.of
    if not pairs:
        return
    part = shared / compared
    severity: Severity = "error" if part >= _WORTHLESS else "warning" if part >= _HARMFUL else "note"
    shown = ", ".join(f"{one.name} = {other.name}" for one, other in pairs[:2])
    known = valid.complete or compared != len(seen)
    of = f"{compared:,} images" if known else f"the {compared:,} that were compared"
    meaning = "means nothing" if severity == "error" else "is too good"
    yield Finding(
        severity,
        f"{train.key} and {valid.key} share {shared:,} of {of} ({shown}): the metric of {valid.key} {meaning}",
        "split the data so that each image is in one of them",
        Where(loader=f"{train.key}, {valid.key}", samples=tuple(other.name for _, other in pairs[:8])),
        {"shared": shared, "compared": compared},
    )


def _proven(train: LoaderProbe, valid: LoaderProbe, overlap: OverlapProbe) -> list[Pair]:
    """Return samples that seem to be the same and were read in both loaders, if their images say that all are."""
    read = [(train.samples.get(other), valid.samples.get(mine)) for mine, other in overlap.pairs]
    pairs = [(one, other) for one, other in read if one is not None and other is not None]
    pairs = [(one, other) for one, other in pairs if is_picture(one) and is_picture(other)]
    same = [bool(_digests(train, one) & _digests(valid, other)) for one, other in pairs]
    if len(pairs) >= _FEWEST_ALIKE and sum(same) >= _ALL * len(pairs):
        return pairs
    return _if_alike(pairs) if train.augments or valid.augments else []


def _digests(loader: LoaderProbe, sample: SampleProbe) -> set[bytes]:
    return {sample.digest, loader.again.get(sample.index, sample.digest)}


def _of_one_id(train: LoaderProbe, others: Sequence[SampleProbe]) -> list[Pair]:
    """Return samples with the same id in both loaders, if their images say that ids mean the same."""
    by_name = {sample.name: sample for sample in pictures(train)}
    return _if_alike([(by_name[sample.name], sample) for sample in others if sample.name in by_name])


def _if_alike(pairs: Sequence[Pair]) -> list[Pair]:
    """Return pairs of samples, if their images are far more alike than others of their class."""
    pairs = [(one, other) for one, other in pairs if _comparable(one, other)]
    # Two data sets that are sorted alike have images of one class at one index: each is compared within its class.
    groups: dict[int | None, list[Pair]] = defaultdict(list)
    for pair in pairs:
        groups[pair[0].label].append(pair)
    compared = [_gains(group) for group in groups.values() if len(group) > 1]
    if sum(len(same) for same, _ in compared) < _FEWEST_PAIRS:
        return []
    same, gain = (np.concatenate(part) for part in zip(*compared, strict=True))
    error = float(gain.std()) / len(gain) ** 0.5
    clear = np.median(same) > _CORRELATION and gain.mean() > max(_CLOSES * (1 - (same - gain).mean()), _ERRORS * error)
    return pairs if clear else []


def _comparable(one: SampleProbe, other: SampleProbe) -> bool:
    # Without a label, an index is no id: data sets that are sorted alike have similar images at one index.
    alike = one.label == other.label and not (one.label is None and one.name.isdigit())
    return alike and one.small is not None and other.small is not None


def _gains(pairs: Sequence[Pair]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the correlation of each pair, and by how much it is above that with the next pair's image."""
    ones, others = vectors([one for one, _ in pairs]), vectors([other for _, other in pairs])
    same = _likeness(ones, others)
    return same, same - _likeness(np.roll(ones, 1, axis=0), others)


def _likeness(ones: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the largest correlation of the middle of each image with the other one, shifted and mirrored."""
    side = round(ones.shape[1] ** 0.5)
    inner = side - 2 * _SHIFT
    middles = _unit(ones.reshape(-1, side, side)[:, _SHIFT : side - _SHIFT, _SHIFT : side - _SHIFT])
    views = [turned for image in [others.reshape(-1, side, side)] for turned in (image, image[:, :, ::-1])]
    steps = range(0, 2 * _SHIFT + 1)
    products = [
        (middles * _unit(view[:, down : down + inner, right : right + inner])).sum(1)
        for view in views
        for down in steps
        for right in steps
    ]
    return np.asarray(np.max(products, axis=0))


def _unit(images: NDArray[np.float32]) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1).astype(np.float64)
    flat = flat - flat.mean(1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12))
