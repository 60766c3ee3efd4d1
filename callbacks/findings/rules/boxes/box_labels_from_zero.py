"""Labels of boxes that begin at 0 where the model has an output more, as for a background that comes first.

Source: torchvision's detectors keep label 0 for the background, where YOLO's files count from 0.
Cost: none.
Risk: detectors whose last output is the background, as in DETR; so it is a warning for torchvision's losses alone, and
a note elsewhere. Every label but the last one must occur, in all loaders together.
"""

import re
from collections.abc import Iterator

import numpy as np

from ...probe.finding import Finding, Where
from ...probe.probe import Probe
from ...probe.rule import rule
from .boxes import ENOUGH, boxes_of

# Parts of the names of layers that tell classes apart.
_OF_CLASSES = re.compile(r"(^|[._])(cls|class|classes|classifier|classification|kind|kinds|label|labels|category)")
_BOTH_STAGES = ("loss_classification", "loss_classifier")
_CLASSES = range(2, 1001)


@rule("box-labels-from-zero", at="model", needs=["loaders", "model"], explained_by=["one-item", "box-labels"])
def box_labels_from_zero(probe: Probe) -> Iterator[Finding]:
    """Find labels of boxes from 0 on that leave the last class of the model unused."""
    found = [boxes for boxes in boxes_of(probe) if len(boxes.labels)]
    labels = np.concatenate([boxes.labels for boxes in found]) if found else np.zeros(0, dtype=np.int64)
    if len(labels) < ENOUGH or labels.min() != 0:
        return
    last = int(labels.max())
    told = _layer(probe, last + 2)
    # One class of two is as often an output of its own for things.
    if told is None or set(labels.tolist()) != set(range(last + 1)):
        return
    keys = " and ".join(boxes.key for boxes in found)
    span = f"0 to {last}" if last else "0 alone"
    yield Finding(
        "warning" if any(term.label in _BOTH_STAGES for term in probe.settings.terms) else "note",
        f"labels of boxes of {keys} are {span}, while {told} tells {last + 2} classes apart: label {last + 1} never "
        f"occurs, and label 0 ({int((labels == 0).sum()):,} of {len(labels):,} boxes) is the background for a detector "
        f"whose background comes first",
        "let labels of boxes count from 1, or give the model a class less if it has no background",
        Where(loader=keys, key="labels", field="num_classes"),
        {"labels": [0, last], "classes": last + 2},
    )


def _layer(probe: Probe, classes: int) -> str | None:
    """Return what has so many classes, by the model's layers or by what callbacks were told; None where nothing has."""
    if classes not in _CLASSES:
        return None
    if probe.settings.num_classes is not None:
        return "the metrics' num_classes" if probe.settings.num_classes == classes else None
    weights = [it for it in probe.model.parameters if len(it.shape) >= 2] if probe.model else []
    # Of a head the last layer alone has as many outputs as there are classes.
    named = [it for it in weights if _OF_CLASSES.search(it.name) and it.shape[0] == classes]
    return f"layer {named[-1].name.removesuffix('.weight')!r}" if named else None
