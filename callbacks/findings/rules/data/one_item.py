"""A data set that returns one item, or few, for every index.

Source: an index that is not used, or a variable of a loop that a lambda keeps, in ``__getitem__``; "wrong selection of
data" in N. Humbatova et al., "Taxonomy of Real Faults in Deep Learning Systems", 2020.
Cost: digests of images that are read anyway.
Risk: a small data set that is repeated on purpose to make epochs longer. Up to ten times is told as a note.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from ...probe.finding import Finding, Where
from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import count
from ..pictures import names_of, pictures

# Fewer samples say too little: four pictures, of which two are alike, are an accident.
_FEWEST = 8
# With fewer distinct images than this share, the data set is not what its length says.
_FEW, _SOME = 0.1, 0.5


@rule("one-item", at="data")
def one_item(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose samples are one image, or few images, again and again."""
    for loader in probe.loaders.values():
        samples = pictures(loader)
        if len(samples) >= _FEWEST:
            yield from _of_loader(loader, samples)


def _of_loader(loader: LoaderProbe, samples: Sequence[SampleProbe]) -> Iterator[Finding]:
    distinct = _distinct(loader, samples)
    of = f"all {len(samples):,} samples" if loader.complete else f"the {len(samples):,} samples that were read"
    where, evidence = Where(loader.key, samples=names_of(samples)), {"distinct": distinct, "samples": len(samples)}
    if distinct <= max(1, _FEW * len(samples)):
        which = "the same image" if distinct == 1 else f"one of only {count(distinct, 'image')}"
        yield Finding(
            "error",
            f"{loader.key} returns {which} for every index: {of} were compared",
            "let the data set's __getitem__ use its index",
            where,
            evidence,
        )
    elif distinct < _SOME * len(samples):
        yield Finding(
            "note",
            f"{loader.key} has only {distinct:,} different images among {of}",
            "see whether images are repeated on purpose",
            where,
            evidence,
        )


def _distinct(loader: LoaderProbe, samples: Sequence[SampleProbe]) -> int:
    digests = Counter(sample.digest for sample in samples)
    # What is drawn makes images of one item differ, but not its id.
    ids = Counter(sample.name for sample in samples)
    return min(len(digests), len(ids)) if loader.augments else len(digests)
