"""The boxes of a loader, counted and measured."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...probe.loader_probe import LoaderProbe, SampleProbe
from ...probe.probe import Probe

Floats = NDArray[np.float64]
Marks = NDArray[np.bool_]

FEWEST = 8  # images with boxes, of which shares are worth comparing
ENOUGH = 20  # boxes whose form can be told
_SLACK = 0.02  # share of the side: rounding, and annotations of a cut thing

# From other forms to the two corners x1, y1, x2, y2.
FORMS: Mapping[str, Callable[[Floats], Floats]] = {
    "x, y, width, height": lambda b: np.column_stack([b[:, 0], b[:, 1], b[:, 0] + b[:, 2], b[:, 1] + b[:, 3]]),
    "center x, center y, width, height": lambda b: np.column_stack([b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2]),
    "x1, x2, y1, y2": lambda b: b[:, [0, 2, 1, 3]],
    "x2, y2, x1, y1": lambda b: b[:, [2, 3, 0, 1]],
    "x1, y1, x1 + x2, y1 + y2, corners that were taken for sizes": lambda b: np.column_stack(
        [b[:, 0], b[:, 1], b[:, 2] - b[:, 0], b[:, 3] - b[:, 1]]
    ),
}


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of a loader's samples, for each of which the image's size is known.

    Attributes:
        loader: of which they are.
        samples: those with boxes, be there none in an image.
    """

    loader: LoaderProbe
    samples: tuple[SampleProbe, ...]

    @property
    def key(self) -> str:
        """Key of the loader."""
        return self.loader.key

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many boxes each image has."""
        return np.array([len(four(sample)) for sample in self.samples], dtype=np.int64)

    @cached_property
    def all(self) -> Floats:
        """All boxes, [n, 4]."""
        return np.concatenate([four(sample) for sample in self.samples])

    @cached_property
    def sizes(self) -> Floats:
        """Width and height of the image of each box, [n, 2]."""
        sizes = np.array([[sample.shape[-1], sample.shape[-2]] for sample in self.samples], dtype=np.float64)
        return np.repeat(sizes.reshape(-1, 2), self.counts, axis=0)

    @cached_property
    def owners(self) -> list[str]:
        """The name of the sample of each box."""
        return [sample.name for sample, count in zip(self.samples, self.counts, strict=True) for _ in range(count)]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """Labels of all boxes that have one."""
        found = [np.asarray(it.box_labels).reshape(-1) for it in self.samples if it.box_labels is not None]
        return np.concatenate(found).astype(np.int64) if found else np.zeros(0, dtype=np.int64)

    def named(self, marks: Marks) -> tuple[str, ...]:
        """Return up to eight samples of the boxes that are marked."""
        return tuple(dict.fromkeys(self.owners[index] for index in np.flatnonzero(marks)))[:8]


def four(sample: SampleProbe) -> Floats:
    """Return a sample's boxes, [n, 4]."""
    return np.asarray(sample.boxes, dtype=np.float64).reshape(-1, 4)


def boxes_of(probe: Probe) -> list[Boxes]:
    """Return the boxes of each loader that has some."""
    found = [
        Boxes(loader, tuple(it for it in loader.samples.values() if _has_boxes(it)))
        for loader in probe.loaders.values()
    ]
    return [boxes for boxes in found if boxes.samples]


def _has_boxes(sample: SampleProbe) -> bool:
    return sample.boxes is not None and len(sample.shape) >= 2 and np.asarray(sample.boxes).size % 4 == 0


def other_of(boxes: Boxes, all_boxes: list[Boxes]) -> Boxes | None:
    """Return the boxes of a loader of the other kind."""
    return next((other for other in all_boxes if other.loader.trains != boxes.loader.trains), None)


def inside(boxes: Floats, sizes: Floats) -> Marks:
    """Return which boxes lie in their images, but for some pixels."""
    slack = 1 + _SLACK * sizes
    within: Marks = np.all((boxes[:, :2] >= -slack) & (boxes[:, 2:] <= sizes + slack), axis=1)
    return within


def upright(boxes: Floats) -> Marks:
    """Return which boxes have a positive width and height."""
    positive: Marks = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    return positive


def plausible(boxes: Floats, sizes: Floats) -> float:
    """Return the share of boxes that could be right as two corners."""
    return float((inside(boxes, sizes) & upright(boxes)).mean())


def normalized(boxes: Boxes) -> bool:
    """Return whether all boxes are shares of the image's sides."""
    many = len(boxes.all) >= FEWEST and boxes.sizes.min() >= 16
    return bool(many and boxes.all.min() >= -0.5 and boxes.all.max() <= 1.5 and (boxes.all % 1 != 0).any())


def wants_pixels(probe: Probe) -> bool:
    """Return whether something of the run takes boxes as torchvision does: two corners in pixels."""
    settings = probe.settings
    by_metrics = any(it.callback.startswith(("Box", "Detection")) for it in settings.metrics)
    by_losses = any(
        it.label.startswith(("loss_bbox", "loss_box", "loss_rpn", "loss_objectness")) for it in settings.terms
    )
    return by_metrics or by_losses or (settings.of_experiment and settings.task == "detection")
