"""Images of which the lower part is missing: one colour from some row on.

Source: files that were cut off in a download; decoders fill what is missing with grey, or leave it black.
Cost: the outer lines of images that are read anyway.
Risk: padding, letterboxes, plain grounds and random erasing are flat at edges too. Padding and letterboxes are at
several edges, or in most images; a ground has its colour elsewhere in the image as well; a drawn feature is in images
of one class. A bottom of black, white or 0 may still be padding, and is a note.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ...probe.finding import SEVERITIES, Finding, Severity, Where
from ...probe.flat_probe import FlatProbe
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import share, some
from ..pictures import names_of, pictures

# Of an image's height; thinner bands are borders and captions.
_LEAST, _MOST = 0.1, 0.95
# Of the pixels above: of a file that was cut off within a row of blocks, a part of that row has the colour as well.
_ELSEWHERE = 0.1
# Fewer images are an accident; more than half of them are made so on purpose.
_FEWEST, _SHARE, _ON_PURPOSE = 3, 0.01, 0.6
# Against these, images that are flat at another edge: where they are padded or moved, as many are.
_OTHERS = 0.2
_OF_ONE_CLASS = 5
# Of the range of the other images' areas: what is so near to an end is black or white.
_END = 0.02
_MOSTLY = 0.5
_COLOURED = 3  # channels; spectrograms and other maps of numbers are padded, and have fewer


@rule("truncated-images", at="data", explained_by=["one-item", "blank-images"])
def truncated_images(probe: Probe) -> Iterator[Finding]:
    """Find loaders of which some images are one colour from some row to the bottom, and nowhere else."""
    found = [(loader, cut) for loader in probe.loaders.values() if (cut := _cut_off(pictures(loader)))]
    if not found:
        return
    images = sum(len(pictures(loader)) for loader, _ in found)
    cut = [sample for _, of in found for sample in of]
    lost = float(np.mean([sample.flat.bottom for sample in cut if sample.flat]))
    keys = [loader.key for loader, _ in found]
    severity = min((_severity(loader, of) for loader, of in found), key=SEVERITIES.index)
    yield Finding(
        severity,
        f"the lower part of {len(cut):,} of {images:,} images of {' and '.join(keys)} ({share(len(cut), images)}) is"
        f" one colour, {share(lost, 1)} of the height on average, as of files that were cut off"
        f" ({some(one.name for one in cut)})",
        "look at these files and read them anew from their source, or leave them out",
        Where(", ".join(keys), found[0][0].image_key, names_of(cut)),
        {"truncated": len(cut), "images": images, "lost": lost},
    )


def _cut_off(samples: Sequence[SampleProbe]) -> list[SampleProbe]:
    """Return the samples that were cut off; none where their edges say that it is something else."""
    flat = [sample for sample in samples if sample.flat is not None]
    cut = [sample for sample in flat if sample.flat and _is_cut(sample.flat)]
    others = [sample for sample in flat if sample.flat and max(sample.flat.top, sample.flat.left, sample.flat.right)]
    some_images = max(_FEWEST, _SHARE * len(samples)) <= len(cut) <= _ON_PURPOSE * len(samples)
    if not some_images or len(others) > _OTHERS * len(cut):
        return []
    labels = {sample.label for sample in cut}
    of_a_class = len(cut) >= _OF_ONE_CLASS and len(labels) == 1 and len({sample.label for sample in samples}) > 1
    return [] if of_a_class else cut


def _is_cut(flat: FlatProbe) -> bool:
    edges = max(flat.top, flat.left, flat.right)
    return _LEAST <= flat.bottom <= _MOST and edges == 0 and flat.elsewhere <= _ELSEWHERE


def _severity(loader: LoaderProbe, cut: Sequence[SampleProbe]) -> Severity:
    colours = [np.array(one.flat.colour) for one in cut if one.flat]
    names = {one.index for one in cut}
    others = [one.small for one in pictures(loader) if one.small is not None and one.index not in names]
    others = [one for one in others if len(one) == len(colours[0])]
    if len(colours[0]) < _COLOURED or not others:
        return "note"
    low, high = (of([of(one, axis=(1, 2)) for one in others], axis=0) for of in (np.min, np.max))
    near = _END * (high - low)
    colours = [it for it in colours if len(it) == len(low)]
    ends = [(it <= low + near).all() or (it >= high - near).all() or not it.any() for it in colours]
    return "note" if np.mean(ends) > _MOSTLY else "warning"
