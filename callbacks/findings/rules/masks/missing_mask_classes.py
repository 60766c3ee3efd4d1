"""Classes that no mask of a loader holds, while many masks of the other loader do.

Source: a split by folders or dates, a palette that lost a colour; as of ``missing-classes``, which looks at labels.
Cost: values of masks that are read anyway.
Risk: as of ``missing-classes``: a class is missing only where as many masks as were read should have held it eight
times. Void and what is ignored are no classes, and masks with other values altogether are told of by other rules.
"""

from collections.abc import Iterator

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from ...probe.wording import class_name
from ..class_counts import ignored_labels
from .masks import FEWEST, VOID, Masks, masks_of, other_of, voids

_EXPECTED = 8  # masks with the class; so many come to none once in 3,000 times
_MOST_CLASSES = 100
_CAUSES = (
    "one-item", "empty-masks", "mask-scale", "interpolated-masks", "inverted-masks", "mask-classes-outside",
    "void-as-class",
)  # fmt: skip


@rule("missing-mask-classes", at="data", explained_by=_CAUSES)
def missing_mask_classes(probe: Probe) -> Iterator[Finding]:
    """Find classes of masks that training or validation lacks."""
    found = [masks for masks in masks_of(probe) if len(masks.samples) >= FEWEST]
    for masks in found:
        other = other_of(masks, found)
        if other is None or not (_of_classes(masks) and _of_classes(other)):
            continue
        ignored = ignored_labels(probe.settings) | voids({*masks.shares, *other.shares})
        absent = [int(it) for it in other.shares if it not in masks.shares and it not in ignored]
        absent = [it for it in absent if _having(other, it) * len(masks.samples) >= _EXPECTED]
        if absent:
            yield _finding(probe, masks, other, absent)


def _of_classes(masks: Masks) -> bool:
    values = masks.shares
    return 2 <= len(values) <= _MOST_CLASSES and all(it == int(it) and it <= VOID for it in values)


def _having(masks: Masks, value: int) -> float:
    return sum(value in sample.mask_values for sample in masks.samples) / len(masks.samples)


def _finding(probe: Probe, masks: Masks, other: Masks, absent: list[int]) -> Finding:
    named = ", ".join(class_name(it, probe.settings.class_names) for it in absent[:5])
    share = max(_having(other, it) for it in absent)
    seen = f"{len(masks.samples):,} masks{'' if masks.loader.complete else ' that were read'}"
    follows = (
        "so the model cannot learn it" if masks.loader.trains else f"so the metrics of {masks.key} say nothing of it"
    )
    return Finding(
        "warning",
        f"{masks.key} has no pixel of class {named} in its {seen}, while {share:.0%} of the masks of {other.key} hold "
        f"it, {follows if len(absent) == 1 else follows.replace(' it', ' them')}",
        f"look at how the masks of {masks.key} become class numbers, and split the data so that each part has every "
        f"class",
        Where(loader=masks.key, key=masks.loader.target_key),
        {"missing": absent, "masks": len(masks.samples), "expected": share},
    )
