"""Labels that are none of the classes.

Source: "wrong labels encoding" of N. Humbatova et al., 2020; on a GPU the message is an assertion without a place.
Cost: a count of labels.
Risk: a label that is ignored on purpose; the criterion's ``ignore_index`` is left out, and below 0 a label counts only
where a cross-entropy reads it.
"""

from collections.abc import Iterator

from ....probe.finding import Finding
from ....probe.probe import Probe
from ....probe.rule import rule
from ...class_counts import has_classes
from ...outside import labels_beyond
from .label_base import class_number


@rule("labels-outside", at="data", explained_by=["label-base"])
def labels_outside(probe: Probe) -> Iterator[Finding]:
    """Find labels below 0, or beyond the classes that callbacks or the experiment name."""
    if has_classes(probe.settings) and probe.settings.task not in ("multilabel", "binary"):
        number = class_number(probe.settings)
        yield from labels_beyond(probe, number, f"the {number} classes are 0 to {number - 1}")
