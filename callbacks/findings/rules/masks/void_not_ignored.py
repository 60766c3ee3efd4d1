"""Pixels that mean no class, in a loss or a metric that counts them.

Source: PASCAL VOC and Cityscapes mark what is not labelled by 255; ``ignore_index`` of torch is -100 if nobody says so.
Cost: none.
Risk: a criterion of the user's own may leave void out by itself, so only criteria that are known are told of.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .masks import masks_of, voids

_KNOWN = ("cross_entropy", "nll", "bce_logits", "bce", "focal", "dice", "jaccard", "lovasz")


@rule("void-not-ignored", at="data", explained_by=["one-item", "mask-scale", "interpolated-masks"])
def void_not_ignored(probe: Probe) -> Iterator[Finding]:
    """Find void pixels that terms of the loss, or metrics, do not ignore."""
    for masks in masks_of(probe):
        # A void that nearly every mask lacks may be a stray pixel.
        values = {value: masks.shares[value] for value in voids(set(masks.shares))}
        void = next((value for value, share in values.items() if len(masks.shares) > 1 and share > 0), None)
        if void is None:
            continue
        terms = [
            it.label for it in probe.settings.terms if it.criterion.kind in _KNOWN and it.criterion.ignore_index != void
        ]
        if masks.loader.trains and terms:
            yield _of_loss(masks.key, void, values[void], terms)
        elif not masks.loader.trains:
            yield from _of_metrics(probe, masks.key, void, values[void])


def _of_loss(loader: str, void: float, share: float, terms: list[str]) -> Finding:
    return Finding(
        "error",
        f"{share:.1%} of the mask pixels of {loader} are {void:g}, which is no class, and the loss "
        f"({', '.join(terms)}) does not ignore them",
        f"pass ignore_index={void:g} to the criterion, and to the metrics",
        Where(loader=loader, key=terms[0], field="ignore_index"),
        {"void": void, "share": share},
    )


def _of_metrics(probe: Probe, loader: str, void: float, share: float) -> Iterator[Finding]:
    ignored = any(term.criterion.ignore_index == void for term in probe.settings.terms)
    # What is not told an index at all may ignore voids by itself, unless the loss was told.
    counting = [it.callback for it in probe.settings.metrics if it.ignore_index != void and it.num_classes is not None]
    if ignored and counting:
        yield Finding(
            "warning",
            f"{share:.1%} of the mask pixels of {loader} are {void:g}, which the loss ignores and the metrics of "
            f"{', '.join(dict.fromkeys(counting))} do not",
            f"pass ignore_index={void:g} to the metrics as well",
            Where(loader=loader, field="ignore_index"),
            {"void": void, "share": share},
        )
