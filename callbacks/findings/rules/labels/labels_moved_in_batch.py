"""Images that a batch puts beside the label of another sample.

Source: collate functions that sort or shuffle one part of a batch alone.
Cost: digests of the targets of the first batches.
Risk: next to none: each image of the batch must be that of an item, and the targets those of the items in another
order; a collate function that changes images or mixes labels is not compared, and one that sorts all parts alike is
right.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.loader_probe import BatchProbe, LoaderProbe
from ...probe.probe import Probe
from ...probe.rule import rule

_MANY = {"label": "labels", "mask": "masks", "boxes": "boxes"}
_MOVED = 0.25  # of the samples of these batches; two that changed places would be one batch's accident


@rule("labels-moved-in-batch", at="data", explained_by=["one-item"])
def labels_moved_in_batch(probe: Probe) -> Iterator[Finding]:
    """Find loaders whose batches hold images beside the targets of other items."""
    found = {key: told for key, loader in probe.loaders.items() if (told := _moved(loader))}
    # One collate function serves several loaders as a rule.
    for thing in dict.fromkeys(it[2] for it in found.values()):
        keys = [key for key, it in found.items() if it[2] == thing]
        moved, count = sum(found[key][0] for key in keys), sum(found[key][1] for key in keys)
        part = "images" if any(found[key][3] for key in keys) else _MANY[thing]
        yield Finding(
            "error",
            f"batches of {' and '.join(keys)} give {moved} of {count} samples the {thing} of another sample of the "
            f"batch: the collate function puts {part} in another order, while each item is right by itself",
            f"let the collate function keep the order of the items for images and {_MANY[thing]} alike",
            Where(loader=", ".join(keys), key=probe.loaders[keys[0]].target_key),
            {"moved": moved, "samples": count},
        )


def _moved(loader: LoaderProbe) -> tuple[int, int, str, bool] | None:
    """Return how many samples have what of another one, of how many, and whether images are out of order."""
    told = [found for batch in loader.batches_seen if (found := _compared(batch))]
    moved, count = sum(it[0] for it in told), sum(it[1] for it in told)
    if not count or moved < _MOVED * count:
        return None
    return moved, count, _thing(loader), any(it[2] for it in told)


def _thing(loader: LoaderProbe) -> str:
    samples = loader.samples.values()
    masks, boxes = any(it.mask_values for it in samples), any(it.boxes is not None for it in samples)
    return "mask" if masks else "boxes" if boxes else "label"


def _compared(batch: BatchProbe) -> tuple[int, int, bool] | None:
    """Return how many samples have the target of another one, of how many, and whether images are out of order."""
    items = {digest: target for digest, target in zip(batch.item_digests, batch.item_targets, strict=False) if target}
    count = len(batch.item_targets)
    if not len(items) == count == len(batch.targets) == len(batch.digests):
        return None
    if set(batch.digests) != set(items) or sorted(batch.targets) != sorted(batch.item_targets):
        return None
    pairs = zip(batch.digests, batch.targets, strict=True)
    moved = sum(items[digest] != target for digest, target in pairs)
    return moved, count, batch.digests != batch.item_digests
