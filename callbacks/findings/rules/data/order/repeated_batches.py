"""Two batches of an epoch with the same samples.

Source: samplers and generators that begin anew, such as ``next(iter(loader))`` in a loop; N. Humbatova et al., 2020.
Cost: the order of an epoch and the digests of its first batches.
Risk: drawing with replacement repeats samples, but hardly a whole batch. Overfitting a few batches on purpose repeats
them; the runner silences the rule then.
"""

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
        repeats, batches = repeats_of(loader) if loader.trains else (0, 0)
        if repeats:
            yield Finding(
                "warning",
                f"{loader.key} gives the same batch several times in an epoch: {repeats:,} of {batches:,} batches that"
                f" were compared repeat an earlier one, and {_differ(batches - repeats)}{_left_out(loader)}",
                "look at its sampler, which should give each sample once",
                Where(loader.key),
                {"repeats": repeats, "batches": batches},
            )


def repeats_of(loader: LoaderProbe) -> tuple[int, int]:
    """Return how many batches repeat an earlier one, and of how many."""
    batches = _batches(loader)
    return len(batches) - len(set(batches)), len(batches)


def _differ(number: int) -> str:
    return f"{count(number, 'batch', 'batches')} {'differs' if number == 1 else 'differ'}"


def _left_out(loader: LoaderProbe) -> str:
    if not 0 < loader.drawable < loader.length:
        return ""
    sampler = loader.sampler or "the sampler"
    return f"; {sampler} never draws but the same {loader.drawable:,} of its {loader.length:,} samples"


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
