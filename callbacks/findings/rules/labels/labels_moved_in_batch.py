"""Labels that a batch gives to other samples than their items do.

Source: collate functions that sort or shuffle one part of a batch alone.
Cost: labels of the first batches.
Risk: mixed labels are no class numbers and are not compared; the batch must hold the same labels in another order.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.loader_probe import BatchProbe, LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule

_MOVED = 0.25  # of the samples of these batches; two that changed places would be one batch's accident


@rule("labels-moved-in-batch", at="data", explained_by=["one-item"])
def labels_moved_in_batch(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose batches hold the labels of their items in another order."""
    for loader in probe.loaders.values():
        told = [found for batch in loader.batches_seen if (found := _compared(loader, batch))]
        moved, count = sum(it[0] for it in told), sum(it[1] for it in told)
        if count and moved >= _MOVED * count:
            yield Finding(
                "error",
                f"batches of {loader.key} give {moved} of {count} samples the label of another sample of the batch: "
                f"images and labels are not put together in one order",
                "let the collate function keep the order of the items for images and labels alike",
                Where(loader=loader.key, key=loader.target_key),
                {"moved": moved, "samples": count},
            )


def _compared(loader: LoaderProbe, batch: BatchProbe) -> tuple[int, int] | None:
    labels = [loader.samples[index].label for index in batch.indices if index in loader.samples]
    items = [label for label in labels if label is not None]
    if len(items) < len(batch.indices) or sorted(items) != sorted(batch.labels):
        return None
    return sum(one != other for one, other in zip(items, batch.labels, strict=True)), len(items)
