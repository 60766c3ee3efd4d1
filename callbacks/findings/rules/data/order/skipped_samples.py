"""Samples that an epoch never gives.

Source: ``drop_last=True`` with few samples or large batches, and samplers over a part of the indices.
Cost: two orders of indices.
Risk: a sampler over a subset is the usual way to split one data set: where it is called a subset, or has weights of 0,
it is a note, and nothing is said where another loader draws from as many samples. Short epochs that draw other samples
each time are left out.
"""

from collections.abc import Iterator

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import share
from .repeated_batches import repeats_of

# A batch that is left out matters where it is a tenth of the data and the same one each time.
_LARGE = 0.1
# A sampler that leaves out most of the data does so by mistake, unless it is called a subset.
_MOST = 0.5


@rule("skipped-samples", at="data", explained_by=["undrawn-classes"])
def skipped_samples(probe: Probe) -> Iterator[Finding]:
    """Find loaders that leave out samples by ``drop_last`` or by their sampler, the same ones in each epoch."""
    for loader in probe.loaders.values():
        yield from _dropped(loader)
        # With several processes each one takes its share of the indices.
        if probe.settings.ranks == 1:
            yield from _never_drawn(probe, loader)


def _dropped(loader: LoaderProbe) -> Iterator[Finding]:
    size, whole = loader.batch_size, loader.epoch_length or loader.length
    if not size or not loader.drop_last or not whole:
        return
    lost = whole % size
    if whole < size:
        what = f"{loader.key} has no batch at all: drop_last leaves out its only one, {whole:,} samples of {size:,}"
    elif loader.shuffles is False and lost >= _LARGE * whole:
        kept = "never trained on" if loader.trains else "never scored"
        what = f"the last {lost:,} of {whole:,} samples of {loader.key} ({share(lost, whole)}) are {kept}: drop_last"
    else:
        return
    do = f"set drop_last=False for {loader.key}, or a smaller batch size"
    evidence = {"lost": lost, "samples": whole, "batch_size": size}
    yield Finding("error" if whole < size else "warning", what, do, Where(loader.key, field="batch_size"), evidence)


def _never_drawn(probe: Probe, loader: LoaderProbe) -> Iterator[Finding]:
    taken, left = loader.drawable, loader.length - loader.drawable
    subset, weighted = "subset" in loader.sampler.lower(), loader.sampler == "WeightedRandomSampler"
    few = taken < _MOST * loader.length
    # Batches that are repeated tell it themselves.
    if not taken or not (few or (weighted and left >= _LARGE * loader.length)) or repeats_of(loader)[0]:
        return
    others = [one for one in probe.loaders.values() if one is not loader and one.length == loader.length]
    if any(subset or 0 < one.drawable < one.length for one in others):
        return
    yield Finding(
        "note" if subset or (weighted and not few) else "warning",
        f"{loader.key} takes the same {taken:,} of its {loader.length:,} samples in each epoch, as"
        f" {loader.sampler or 'the sampler'} gives no other index",
        "let the sampler give every index, or leave the other samples out of the data set",
        Where(loader.key),
        {"taken": taken, "samples": loader.length},
    )
