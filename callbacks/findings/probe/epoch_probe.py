"""What was observed of an epoch, and the model's features after it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class AverageProbe:
    """Other weights than the trained ones that were validated.

    Attributes:
        name: of the copy of the model in the runner, a callback or a dict of models; "": they took the place of the
            model's own.
        moved: how far they are from the initial weights, in parts of how far the trained ones are.
        decay: of an average that begins with the weights after the first step; None where it is not known.
    """

    name: str
    moved: float
    decay: float | None = None


@dataclass(frozen=True)
class EpochProbe:
    """One epoch that has ended.

    Attributes:
        epoch: its number, from 1.
        metrics: by loader and name, as logged.
        label_counts: how often each class was the target, by loader, [C]; of a single label [2], no and yes; of
            several, how often each was yes, [L]; of masks, evenly spaced pixels. Empty where targets are no classes.
        prediction_counts: how often each class was predicted, by loader, [C].
        non_finite_steps: steps held back or broken.
        steps: optimizer steps; None of an epoch before a run went on, of which the metrics alone are known.
        steps_by_optimizer: the same of each optimizer, by its name, "" for the only one; empty where it is not known.
        scheduler_steps: of the first scheduler, since the run began, but for one after its last epoch; None where they
            cannot be counted.
        scales: of a gradient scaler, first and last; None where there is none.
        clipped: share of steps whose gradients were clipped; None where it is not known.
        average: the moving average that was validated; None where it was the trained weights.
    """

    epoch: int
    metrics: Mapping[str, Mapping[str, float]]
    label_counts: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    prediction_counts: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    non_finite_steps: int = 0
    steps: int | None = None
    steps_by_optimizer: Mapping[str, int] = field(default_factory=dict)
    scheduler_steps: int | None = None
    scales: tuple[float, float] | None = None
    clipped: float | None = None
    average: AverageProbe | None = None


@dataclass(frozen=True)
class FeatureProbe:
    """The model's features of up to 1,000 samples of a loader, as the run itself saw them in an epoch.

    Those of a training loader are of the last batches of the epoch, in training mode and as they are augmented; those
    of a validation loader of the first batches, in evaluation mode, after the steps of the epoch.

    Attributes:
        features: [n, D] float32, what the last linear or convolutional layer takes, averaged over positions; of more
            than 512 values, evenly spaced ones.
        labels: [n].
        predictions: [n], the class with the largest output.
        probability: [n], of the prediction.
        names: of the samples: their ids, or their places in the loader.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    probability: NDArray[np.float32]
    names: tuple[str, ...]
