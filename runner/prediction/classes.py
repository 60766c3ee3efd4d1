"""Predict classes: a table of them with their probabilities."""

import math
from pathlib import Path

import torch
from torch import Tensor

from ..experiment.prediction_spec import ClassPrediction
from .batches import read_batches
from .inputs import Input
from .models import Models
from .outcome import Outcome, not_finite
from .table import TABLE, write_table


def predict_classes(
    models: Models,
    prediction: ClassPrediction,
    inputs: list[Input],
    output: Path,
    *,
    batch_size: int,
    outcome: Outcome,
) -> None:
    """Write ``predictions.csv``: image, prediction, and the probability of each class, one row per image, in order.

    For multi-label and binary models the prediction lists all classes with a probability of at least 0.5, separated by
    semicolons.

    Args:
        models: the models.
        prediction: how the experiment predicts.
        inputs: the images.
        output: the folder.
        batch_size: images per batch.
        outcome: records the result for each image.
    """
    header = ["image", "prediction", *(f"probability/{name}" for name in prediction.class_names)]
    with write_table(output / TABLE, header) as table:
        batches = read_batches(inputs, prediction.read, prediction.transform, batch_size=batch_size, outcome=outcome)
        for batch, images in batches:
            with outcome.naming(ready.input.path for ready in batch):
                rows = mean_probabilities(models, prediction, images).tolist()
                for ready, row in zip(batch, rows, strict=True):
                    if not all(map(math.isfinite, row)):
                        outcome.fail(not_finite(ready.input.path))
                        continue
                    table.add([ready.input.name, _name_predicted(row, prediction), *(f"{value:.6f}" for value in row)])
                    outcome.add()


def mean_probabilities(models: Models, prediction: ClassPrediction, images: Tensor) -> Tensor:
    """Return probabilities [N, C], the mean over views and models."""
    # Probabilities are averaged, not logits: the mean of several models is then a probability again.
    outputs = models.outputs(images)
    of_models = [torch.cat([prediction.probabilities(part) for part in parts]) for parts in outputs]
    return torch.stack([models.views.mean_of_labels(values) for values in of_models]).mean(dim=0)


def mean_logits(models: Models, prediction: ClassPrediction, images: Tensor) -> Tensor:
    """Return logits [N, C] whose probabilities are ``mean_probabilities``: what losses and metrics take."""
    values = mean_probabilities(models, prediction, images)
    tiny = torch.finfo(values.dtype).tiny
    if prediction.multilabel or values.shape[1] == 1:
        return values.clamp_min(tiny).log() - (1 - values).clamp_min(tiny).log()
    return values.clamp_min(tiny).log()


def _name_predicted(probabilities: list[float], prediction: ClassPrediction) -> str:
    names = prediction.class_names
    if prediction.multilabel or len(names) == 1:
        return ";".join(name for name, value in zip(names, probabilities, strict=True) if value >= 0.5)
    return names[probabilities.index(max(probabilities))]
