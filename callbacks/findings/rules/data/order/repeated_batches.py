"""Two batches of an epoch with the same samples.

Source: samplers and generators that begin anew, such as ``next(iter(loader))`` in a loop; N. Humbatova et al., 2020.
Cost: the order of an epoch and the digests of its first batches.
Risk: drawing with replacement repeats samples, but hardly a whole batch. Overfitting a few batches on purpose repeats
them; the runner silences the rule then.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence

from ....probe.finding import Finding, Where
from ....probe.loader_probe import LoaderProbe
from ....probe.probe import Probe
from ....probe.rule import rule
from ....probe.wording import count

# Two batches of two samples are alike by chance where a sampler draws with replacement.
_SMALLEST_BATCH = 4


@rule("repeated-batches", at="data", explained_by=["one-item"])
def repeated_batches(probe: Probe) -> Iterator[Finding]:
    """Find training loaders that give the same batch again within an epoch."""
    for loader in probe.loaders.values():
        batches = _batches(loader) if loader.trains else []
        times = Counter(batches)
        repeats = len(batches) - len(times)
        if repeats:
            yield Finding(
                "warning",
                f"{loader.key} gives the same batch several times in an epoch: {repeats:,} of {len(batches):,} batches"
                f" that were compared repeat an earlier one, and {count(len(times), 'batch', 'batches')} differ",
                "look at its sampler, which should give each sample once",
                Where(loader.key),
                {"repeats": repeats, "batches": len(batches)},
            )


def _batches(loader: LoaderProbe) -> Sequence[Hashable]:
    order, size = [*loader.order], loader.batch_size or 0
    if size >= _SMALLEST_BATCH and len(order) >= 2 * size:
        by_order = [tuple(sorted(order[start : start + size])) for start in range(0, len(order) - size + 1, size)]
        if len(set(by_order)) < len(by_order):
            return by_order
    seen = [tuple(sorted(batch.digests)) for batch in loader.batches_seen if len(set(batch.digests)) >= _SMALLEST_BATCH]
    if len(set(seen)) < len(seen):
        return seen
    return [tuple(sorted(one.names)) for one in loader.batches_seen if len(set(one.names)) >= _SMALLEST_BATCH]
