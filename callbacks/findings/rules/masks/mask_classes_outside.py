"""Masks with classes that the model does not have.

Source: masks whose classes count from 1, or of a data set with more classes.
Cost: none.
Risk: 255 and negative values are void and left to ``void-not-ignored``. A criterion of the project's own may have a use
for marks right below 255, such as pixels without a label, which are left out there.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import count
from .masks import listed, masks_of, voids

_MARKS = {250, 251, 252, 253, 254}


@rule("mask-classes-outside", at="data", explained_by=["one-item", "mask-scale", "interpolated-masks"])
def mask_classes_outside(probe: Probe) -> Iterator[Finding]:
    """Find values in masks that are not below the number of classes."""
    classes = probe.settings.num_classes
    if not classes or probe.settings.task in ("regression", "multilabel"):
        return
    # One output tells two classes.
    classes = max(classes, 2)
    ignored = {it.criterion.ignore_index for it in probe.settings.terms} | {
        it.ignore_index for it in probe.settings.metrics
    }
    if any(not it.criterion.kind for it in probe.settings.terms):
        ignored |= _MARKS
    for masks in masks_of(probe):
        values = [
            it for it in masks.shares if it >= classes and it not in ignored and it not in voids(set(masks.shares))
        ]
        if values:
            share = sum(masks.shares[value] for value in values)
            yield Finding(
                "error",
                f"masks of {masks.key} hold {listed(values)} on {share:.1%} of the pixels, and there are "
                f"{count(classes, 'class', 'classes')}, from 0 to {classes - 1}",
                "number the classes of masks from 0, or raise the number of classes",
                Where(loader=masks.key, key=masks.loader.target_key, field="num_classes"),
                {"values": values[:20], "classes": classes},
            )
